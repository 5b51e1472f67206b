"""The data source ``FOLDER``: a folder with a file for each of a user's own reviews."""

from __future__ import annotations

from imdbtune.data.own import check_own, check_own_contents, folder_corpus
from imdbtune.data.source import Source, expand

FOLDER = Source(
    about="a folder laid out as `aclImdb`, with a folder for each label: `train/pos/*.txt`, "
    "`train/neg/*.txt`, and optionally `test/`",
    open=lambda request: folder_corpus(
        request.path, request.cache, request.config, request.progress
    ),
    check=lambda text, config: check_own(expand(text), config),
    check_contents=lambda text, config: check_own_contents(expand(text), config),
    has_settings=True,
)
