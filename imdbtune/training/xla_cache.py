"""Where XLA keeps what it has compiled, so that the next process need not compile it again.

The files hold machine code that is run. So they lie in a folder that is the user's alone, one
for each kind of processor and version of TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import stat
from pathlib import Path

from imdbtune.training.hardware import processor_features

KEPT = 500  # files; one for each model and length that was trained, of some 100 KB


def cache_environment(cache: Path) -> dict[str, str]:
    """What tells TensorFlow, before it is imported, to keep compiled code below ``cache``.

    Empty where the folder cannot be had, is not the user's alone, or flags are set already.
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
    # The flags are split at spaces, without a way to quote one.
    if not usable or any(c.isspace() for c in str(folder)):
        return {}
    return {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={folder}"}


def _is_private(folder: Path) -> bool:
    found = folder.lstat()
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return mine and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077


def _prune(folder: Path) -> None:
    """Keep the newest files."""
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)
