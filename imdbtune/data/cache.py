"""Locks, hashes and write errors of the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from imdbtune.errors import UserError
from imdbtune.files import make_private_folder, require_regular_file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes; create it and its folder if missing.

    Raises:
        UserError: the lock file cannot be created.
    """
    lock = FileLock(path)
    try:
        make_private_folder(path.parent)
        lock.acquire()
    except OSError as error:
        raise not_writable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    with require_regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_readable(path: str | Path, error: OSError) -> UserError:
    """Return the error for a file of the user's that cannot be read."""
    return UserError(f"{path} cannot be read: {error.strerror or error}.")


def not_writable(path: Path, error: OSError) -> UserError:
    """Return the error for a file or folder of the cache that cannot be written."""
    return UserError(
        f"{path} cannot be written ({error.strerror or error}); free some space or allow writing, "
        "or choose another cache folder with the environment variable IMDBTUNE_CACHE."
    )
