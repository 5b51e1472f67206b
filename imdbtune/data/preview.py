"""Whether a file or folder is so small that checking all of it takes less than a second."""

from __future__ import annotations

import itertools
from pathlib import Path

from imdbtune.data.cache import not_readable

SMALL_BYTES = 2**21


def is_small(path: Path) -> bool:
    """Return whether a file, or the texts of a folder, have at most ``SMALL_BYTES``.

    Raises:
        UserError: it cannot be read.
    """
    files = path.rglob("*.txt") if path.is_dir() else [path]
    try:
        sizes = itertools.accumulate(file.stat().st_size for file in files)
        return all(size <= SMALL_BYTES for size in sizes)
    except OSError as error:
        raise not_readable(error.filename, error) from error
