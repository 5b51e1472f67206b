"""Files: atomic and durable writes, and reading that refuses what is not a regular file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imdbtune.errors import SearchAborted

# Of a line that has been written to its end.
END = b"}\n"
# A quota and a limit on the size of files (ulimit -f) are met like a full disk.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def append_line(path: Path, record: Mapping[str, Any], sync: bool = True) -> None:
    """Add a JSON object as a line.

    A last line that a crash has cut or emptied is taken away first; of a line for which there is
    no room nothing stays.

    Args:
        sync: write it through to the disk, with all that is before it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = memoryview(json.dumps(record).encode() + b"\n")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = _cut_torn_end(descriptor)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if sync:
                os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)
    if sync and size == 0:
        _sync(path.parent)


def _cut_torn_end(descriptor: int) -> int:
    """The size of the file, without what follows its last whole line."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 2, max(0, size - 2)) != END:
        size = os.pread(descriptor, size, 0).rfind(END) + len(END)
        size = size if size >= len(END) else 0
        os.ftruncate(descriptor, size)
    return size


def read_lines(
    path: Path, start: int = 0, strict: bool = False
) -> Iterator[tuple[dict[str, Any], int]]:
    """The records of the whole lines from byte ``start`` on, each with the byte where it ends.

    A power failure may cut the last line, or leave zeros in its place. Where each line is written
    through to the disk before the next, no other can be so.

    Args:
        strict: say so where one is; else it ends there.

    Raises:
        SearchAborted: a line before the last cannot be read.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for number, line in enumerate(file, start=1):
            record = _parse(line)
            if record is None:
                if strict and file.read().strip(b"\0\r\n"):
                    raise SearchAborted(
                        f"line {number} of {path} is damaged, and others follow it: the disk or an "
                        "editor did that. Put the file back as it was, or begin a new search."
                    )
                return
            start += len(line)
            yield record, start


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record in a line; None if it is not one, or not to its end."""
    try:
        record = json.loads(line) if line.endswith(END) else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def replace_file(path: Path, record: Mapping[str, Any]) -> None:
    """Put one JSON line in the place of a file, as :func:`replace_text`."""
    replace_text(path, json.dumps(record) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a text aside and put it in the place of a file; a link stays one, and rights as well.

    A device or a pipe is written to, and so is a file whose folder takes no other. Not written
    through to the disk: for what can be found out again.

    Raises:
        OSError: it cannot be; the file is as it was, and nothing lies beside it.
    """
    whole = Path(os.path.realpath(path))
    if path.exists() and not (whole.is_file() and os.access(whole.parent, os.W_OK)):
        path.write_text(text, encoding="utf-8")
        return
    try:
        with atomic_path(whole) as aside:
            aside.write_text(text, encoding="utf-8")
            if whole.exists():
                shutil.copymode(whole, aside)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A file for the block to write, which comes in the place of ``path`` if that goes well."""
    aside = path.with_name(f"{path.name[:40]}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Write a file through to the disk, with its name and that of its folder."""
    for part in (path, path.parent, path.parent.parent):
        _sync(part)


def sync_folder(folder: Path) -> None:
    """Write the files of a folder through to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)


def _sync(path: Path) -> None:
    """A folder only where it can be opened for that."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError):
            if error.errno in NO_ROOM:
                return True
            # Those of HDF5 have no number.
            if error.errno is None and os.strerror(errno.ENOSPC) in str(error):
                return True
        error = error.__cause__ or error.__context__
    return False


def require_regular_file(path: Path) -> Path:
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


def read_small_text(path: Path, most: int = 2**24) -> str:
    """The text of a file in UTF-8 that is small by its nature.

    Raises:
        OSError: as :func:`require_regular_file`, or it has more than ``most`` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    if require_regular_file(path).stat().st_size > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return path.read_text(encoding="utf-8-sig")  # Windows puts a mark first


def require_regular_files(path: Path) -> None:
    """Raise OSError unless a path is a regular file, or a folder of such, however deep."""
    if not path.is_dir():
        require_regular_file(path)
    for folder, _, names in os.walk(path):
        for name in names:
            require_regular_file(Path(folder, name))
