"""Compiled code that later processes reuse, so that they need not compile the same model again.

XLA's persistent cache fails a training when a file of it is damaged or cannot be written. So
TensorFlow gets a folder in memory instead of one on disk (``ram://``, one of its file systems).
Before a training, the checked files are copied from the disk into that folder. Afterwards, new ones
are copied back. Whatever happens to the files on the disk, the only loss is time.

The key of an entry holds the name of the compiled function. It ends with a number that TensorFlow
counts up with every eager tensor and traced function of the process. So the first training of a
process finds its code, and later ones seldom do.

The files hold machine code that will be executed. So their folder is private to the user, and there
is one for each kind of processor and version of TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imdbtune.files import atomic_path, make_private_folder, require_regular_file
from imdbtune.training.hardware import processor_features

MAX_BYTES = 2**26  # of all files, which each process holds in memory; a model has about 0.4 MB
FOLDER = "IMDBTUNE_XLA_CACHE"  # environment variable: the folder on disk
MEMORY = "ram://imdbtune-xla"
FLAGS = f"--tf_xla_persistent_cache_directory={MEMORY}"
_ENTRY = ".pb"  # how the names end that XLA gives to complete files
_DIGEST_BYTES = hashlib.sha256().digest_size


def cache_environment(cache: Path) -> dict[str, str]:
    """Return environment variables that let trainings reuse the compiled code in ``cache``.

    They have to be set before TensorFlow is imported. They are empty if the folder cannot be
    created, is not private, or the user has set flags of XLA.
    """
    if os.environ.get("TF_XLA_FLAGS") not in (None, "", FLAGS):
        return {}
    version = importlib.metadata.version("tensorflow")
    kind = hashlib.sha256(f"{version} {processor_features()}".encode()).hexdigest()[:16]
    folder = (cache / "xla" / kind).absolute()
    try:
        make_private_folder(folder)
        for path in (folder.parent, folder):
            if not _is_private(path):  # on a read-only disk it may be
                path.chmod(0o700)
        usable = _is_private(folder.parent) and _is_private(folder)
    except OSError:
        return {}
    return {"TF_XLA_FLAGS": FLAGS, FOLDER: str(folder)} if usable else {}


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return is_own and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077


@contextmanager
def reuse_compiled_code() -> Iterator[None]:
    """Let XLA reuse compiled code in the block, and save what it compiles there.

    Without the variables of :func:`cache_environment` this does nothing.
    """
    folder = os.environ.get(FOLDER)
    if not folder or os.environ.get("TF_XLA_FLAGS") != FLAGS:
        yield
        return
    load_entries(Path(folder))
    before = _names_in_memory()
    try:
        yield
    finally:
        save_entries(Path(folder), _names_in_memory() - before)


def load_entries(folder: Path) -> None:
    """Copy the newest undamaged files into memory; delete all others on disk and in memory."""
    import tensorflow as tf

    with suppress(OSError, tf.errors.OpError):
        tf.io.gfile.makedirs(MEMORY)
        loaded, kept, budget = _names_in_memory(), set(), MAX_BYTES
        files = sorted(folder.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
        for path in files:
            with suppress(OSError):
                budget -= require_regular_file(path).stat().st_size
                # Other names are those of files that a killed process has left.
                usable = budget >= 0 and path.suffix == _ENTRY
                if usable and (path.name in loaded or _load_entry(path)):
                    kept.add(path.name)
                else:
                    path.unlink(missing_ok=True)
        for name in loaded - kept:
            tf.io.gfile.remove(f"{MEMORY}/{name}")


def _load_entry(path: Path) -> bool:
    """Copy a file into memory; return whether it is undamaged."""
    import tensorflow as tf

    content = path.read_bytes()
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(code).digest() != digest:
        return False
    with tf.io.gfile.GFile(f"{MEMORY}/{path.name}", "wb") as file:
        file.write(code)
    return True


def save_entries(folder: Path, names: set[str]) -> None:
    """Copy files from memory to ``folder``, each behind its digest; leave out what has no room."""
    import tensorflow as tf

    with suppress(OSError, tf.errors.OpError):
        for name in names:
            with tf.io.gfile.GFile(f"{MEMORY}/{name}", "rb") as file:
                code = file.read()
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(hashlib.sha256(code).digest() + code)


def _names_in_memory() -> set[str]:
    """Return the names of all complete files in memory."""
    import tensorflow as tf

    if not tf.io.gfile.isdir(MEMORY):
        return set()
    return {name for name in tf.io.gfile.listdir(MEMORY) if name.endswith(_ENTRY)}
