"""The data sources ``PATH.csv``, ``PATH.tsv``, ...: a table of a user's own reviews."""

from __future__ import annotations

from imdbtune.data.corpus import Corpus
from imdbtune.data.folder_source import FOLDER
from imdbtune.data.own import check_own, check_own_contents, table_corpus
from imdbtune.data.source import Request, Source, expand


def _open(request: Request) -> Corpus:
    if request.path.is_dir():  # a folder may have any name
        return FOLDER.open(request)
    return table_corpus(request.path, request.cache, request.config, request.progress)


TABLE = Source(
    about="a table with one row for each review",
    open=_open,
    check=lambda text, config: check_own(expand(text), config),
    check_contents=lambda text, config: check_own_contents(expand(text), config),
    has_settings=True,
)
