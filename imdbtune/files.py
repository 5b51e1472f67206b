"""Write files atomically and durably; read only regular files."""

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

# Terminator of a complete record.
END = b"}\n"
# An exceeded quota or file size limit (ulimit -f) is treated like a full disk.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

JsonObject = dict[str, Any]  # as json.loads returns it: who reads a value checks its type


def append_line(path: Path, record: Mapping[str, object], sync: bool = True) -> None:
    """Append a JSON object as a line.

    An incomplete last line, left by a crash, is removed first. If the disk is full, nothing of the
    new line remains.

    Args:
        path: the file; created if it does not exist.
        record: the object.
        sync: flush the file to disk.
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
    """Truncate the file after its last complete line and return its size."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 2, max(0, size - 2)) != END:
        size = os.pread(descriptor, size, 0).rfind(END) + len(END)
        size = size if size >= len(END) else 0
        os.ftruncate(descriptor, size)
    return size


def read_lines(
    path: Path, start: int = 0, strict: bool = False
) -> Iterator[tuple[JsonObject, int]]:
    """Yield the records of the complete lines from byte ``start`` on, each with its end offset.

    A power failure may truncate the last line or leave zeros in its place. If each line is flushed
    before the next, no other line can be damaged.

    Args:
        path: the file.
        start: offset of a line.
        strict: raise if a damaged line is not the last; otherwise stop there.

    Raises:
        SearchAborted: a damaged line before the last, if ``strict``.
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
                        f"line {number} of {path} is damaged and is not the last line, so no "
                        "crash explains it. Restore the file, or start a new search."
                    )
                return
            start += len(line)
            yield record, start


def _parse(line: bytes) -> JsonObject | None:
    """Return the record in a line; ``None`` if the line is incomplete or invalid."""
    try:
        record = json.loads(line) if line.endswith(END) else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def replace_file(path: Path, record: Mapping[str, object]) -> None:
    """Replace a file by one JSON line, as :func:`replace_text`."""
    replace_text(path, json.dumps(record) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replace a file atomically by a text; a link stays a link, and permissions stay.

    A device, a pipe, or a file in a read-only folder is written in place. The text is not flushed
    to disk: this is for data that can be computed again.

    Raises:
        OSError: writing failed; the file is unchanged and no temporary file remains.
    """
    target = Path(os.path.realpath(path))
    if path.exists() and not (target.is_file() and os.access(target.parent, os.W_OK)):
        path.write_text(text, encoding="utf-8")
        return
    try:
        with atomic_path(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
            if target.exists():
                shutil.copymode(target, temporary)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for the block to write; it replaces ``path`` on success."""
    temporary = path.with_name(f"{path.name[:40]}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_private_folder(folder: Path) -> None:
    """Create a folder, and missing ones above it; whatever the umask, only their owner enters them.

    Folders that exist keep their permissions.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        if folder.parent == folder:  # the working directory is gone
            raise
        make_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def sync_file(path: Path) -> None:
    """Flush a file to disk, with its directory entry and that of its folder."""
    for part in (path, path.parent, path.parent.parent):
        _sync(part)


def sync_folder(folder: Path) -> None:
    """Flush the files of a folder to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)


def _sync(path: Path) -> None:
    """Flush a file or folder; a folder only where the system can open one."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes is that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        # Errors of HDF5 and TensorFlow have no errno.
        without_number = getattr(error, "errno", None) is None and (
            isinstance(error, OSError) or type(error).__name__ == "ResourceExhaustedError"
        )
        if without_number and os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def require_regular_file(path: Path) -> Path:
    """Return the path if it is a regular file, or a link to one.

    Raises:
        OSError: it is missing, or a folder, pipe, device or socket; ``strerror`` says which.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return path
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def read_small_text(path: Path, max_bytes: int = 2**24) -> str:
    """Return the text of a small UTF-8 file.

    Raises:
        OSError: as :func:`require_regular_file`, or the file has more than ``max_bytes`` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    if require_regular_file(path).stat().st_size > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
    return path.read_text(encoding="utf-8-sig")  # Windows writes a byte order mark


def require_regular_files(path: Path) -> None:
    """Raise OSError unless a path is a regular file, or a folder with only regular files."""
    if not path.is_dir():
        require_regular_file(path)
    for folder, _, names in os.walk(path):
        for name in names:
            require_regular_file(Path(folder, name))
