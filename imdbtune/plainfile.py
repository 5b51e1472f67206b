"""Only plain files are read: a pipe would be waited for, and a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def plain(path: Path) -> Path:
    """The path, if a regular file is there or what a link there leads to is one.

    Raises:
        OSError: nothing is there, or a folder, pipe, device or socket; ``strerror`` says which.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return path
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    raise OSError(errno.EINVAL, f"it is {kind}, no file", str(path))


def read_document(path: Path, most: int = 2**24) -> str:
    """The text of a file in UTF-8 that is small by its nature.

    Raises:
        OSError: as :func:`plain`, or it has more than ``most`` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    if plain(path).stat().st_size > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return path.read_text(encoding="utf-8-sig")  # Windows puts a mark first


def check_plain_inside(path: Path) -> None:
    """Raise OSError unless a path is a regular file, or a folder of such, however deep."""
    if not path.is_dir():
        plain(path)
    for folder, _, names in os.walk(path):
        for name in names:
            plain(Path(folder, name))
