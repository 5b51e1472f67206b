"""Check the contents of a source in less than a second, without converting them."""

from __future__ import annotations

import itertools
from pathlib import Path

from imdbtune.config.schema import TableConfig
from imdbtune.data.imdb import check_npz_corpus
from imdbtune.data.own import check_all_reviews
from imdbtune.data.sources import is_path
from imdbtune.errors import UserError

SMALL_BYTES = 2**21  # a source of this size is read as a whole in less than a second


def check_contents(source: str, config: TableConfig) -> None:
    """Check the file or folder of a source that :func:`check_source` has accepted.

    Of a large ``.npz`` the reviews stay unread, of a large table or folder all after the first
    rows. What would be downloaded is not checked.

    Raises:
        UserError: :func:`imdbtune.data.sources.open_corpus` would reject it.
    """
    if not is_path(source):
        return
    path = Path(source).expanduser()
    try:
        small = _is_small(path)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error
    if source.endswith(".npz"):
        check_npz_corpus(path, whole=small)
    elif small:
        check_all_reviews(path, config)


def _is_small(path: Path) -> bool:
    files = path.rglob("*.txt") if path.is_dir() else [path]
    sizes = itertools.accumulate(file.stat().st_size for file in files)
    return all(size <= SMALL_BYTES for size in sizes)
