"""Keeps what TensorFlow and others print out of the way: a log file gets it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def chatter_to_log() -> Iterator[TextIO]:
    """Send standard error to ``libraries.log`` in the cache; yields the real one for our own words.

    Native code writes to the file descriptor, so that is what is redirected.
    """
    from imdbtune.data.sources import default_cache

    sys.stderr.flush()
    real = os.dup(2)
    log = _open_log(default_cache() / "libraries.log")
    os.dup2(log, 2)
    os.close(log)
    try:
        with os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8", errors="replace") as own:
            yield own
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)
        os.close(real)


def _open_log(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
