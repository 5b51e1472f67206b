"""The data source ``PATH.npz``: a file like Keras's ``imdb.npz``."""

from __future__ import annotations

from typing import Any

from imdbtune.config.schema import TableConfig
from imdbtune.data.imdb import check_npz_corpus, npz_corpus
from imdbtune.data.preview import is_small
from imdbtune.data.source import Source, expand
from imdbtune.errors import UserError, short_repr


def _check(text: str, config: TableConfig) -> dict[str, Any]:
    try:
        exists = expand(text).is_file()
    except OSError:  # the name is too long
        exists = False
    if not exists:
        raise UserError(f"no file {short_repr(text)}; pass the path of an imdb.npz, imdb or demo.")
    return {}


def _check_contents(text: str, config: TableConfig) -> None:
    path = expand(text)
    check_npz_corpus(path, whole=is_small(path))


NPZ = Source(
    about="an `imdb.npz` such as `~/.keras/datasets/imdb.npz`, read without unpickling. Exporting "
    "and predicting need the words too: put `imdb_word_index.json` next to it",
    open=lambda request: npz_corpus(request.path, request.cache),
    check=_check,
    check_contents=_check_contents,
)
