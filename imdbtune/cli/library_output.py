"""Redirect what TensorFlow and other libraries print to a log file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from imdbtune.files import make_private_folder

_shown: ContextVar[bool] = ContextVar("shown", default=False)
_stderr: ContextVar[int] = ContextVar("stderr", default=2)


@contextmanager
def set_library_output(shown: bool) -> Iterator[None]:
    """Show or hide the output of libraries (``--verbose``) while the block runs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if shown else "3")
    if shown:
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "true"
        import logging

        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    before = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(before)


def is_library_output_shown() -> bool:
    """Return whether the output of libraries is shown."""
    return _shown.get()


def stderr_descriptor() -> int:
    """Return the file descriptor of the real standard error, also while it is redirected."""
    return _stderr.get()


@contextmanager
def redirect_library_output() -> Iterator[TextIO]:
    """Send standard error to ``libraries.log`` in the cache; yield the real one for our messages.

    Native code writes to the file descriptor, so the descriptor is redirected. With ``--verbose``
    nothing is redirected.
    """
    from imdbtune.data.sources import default_cache

    sys.stderr.flush()
    real = os.dup(2)
    log = default_cache() / "libraries.log"
    redirected = nullcontext() if is_library_output_shown() else _redirect_stderr(log, real)
    before = _stderr.set(real)
    try:
        with (
            redirected,
            os.fdopen(os.dup(real), "w", 1, encoding="utf-8", errors="replace") as stderr,
        ):
            yield stderr
    finally:
        _stderr.reset(before)
        os.close(real)


@contextmanager
def _redirect_stderr(path: Path, real: int) -> Iterator[None]:
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
        make_private_folder(path.parent)
        return os.open(path, flags, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
