"""Keeps what TensorFlow and others print out of the way: a log file gets it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

_aloud: ContextVar[bool] = ContextVar("aloud", default=False)


@contextmanager
def speaking(aloud: bool) -> Iterator[None]:
    """Whether libraries may be heard (``--verbose``) while the block runs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if aloud else "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", str(aloud).lower())
    if aloud:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    before = _aloud.set(aloud)
    try:
        yield
    finally:
        _aloud.reset(before)


def is_aloud() -> bool:
    """Whether libraries may be heard."""
    return _aloud.get()


@contextmanager
def chatter_to_log() -> Iterator[TextIO]:
    """Send standard error to ``libraries.log`` in the cache; yields the real one for our own words.

    Native code writes to the file descriptor, so that is what is redirected. Nothing is where
    libraries may be heard.
    """
    from imdbtune.data.sources import default_cache

    sys.stderr.flush()
    real = os.dup(2)
    log = nullcontext() if is_aloud() else _redirected(default_cache() / "libraries.log", real)
    try:
        with log, os.fdopen(os.dup(real), "w", 1, encoding="utf-8", errors="replace") as own:
            yield own
    finally:
        os.close(real)


@contextmanager
def _redirected(path: Path, real: int) -> Iterator[None]:
    log = _open_log(path)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)


def _open_log(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
