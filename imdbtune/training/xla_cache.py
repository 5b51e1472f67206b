"""The folder of XLA's compilation cache, which later processes reuse.

The files hold machine code that will be executed. So the folder is private to the user, and there
is one for each kind of processor and version of TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import stat
from pathlib import Path

from imdbtune.training.hardware import processor_features

MAX_FILES = 500  # one for each trained model and shape, about 100 KB each


def cache_environment(cache: Path) -> dict[str, str]:
    """Return environment variables that let TensorFlow, once imported, cache code in ``cache``.

    They are empty if the folder cannot be created, is not private, or flags are set already.
    """
    if os.environ.get("TF_XLA_FLAGS"):
        return {}
    version = importlib.metadata.version("tensorflow")
    kind = hashlib.sha256(f"{version} {processor_features()}".encode()).hexdigest()[:16]
    folder = (cache / "xla" / kind).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (folder.parent, folder):
            path.chmod(0o700)
        _prune(folder)
        usable = _is_private(folder.parent) and _is_private(folder)
    except OSError:
        return {}
    # TensorFlow splits the flags at spaces, which cannot be quoted.
    if not usable or any(c.isspace() for c in str(folder)):
        return {}
    return {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={folder}"}


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return is_own and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077


def _prune(folder: Path) -> None:
    """Delete all but the newest files."""
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[MAX_FILES:]:
        path.unlink(missing_ok=True)
