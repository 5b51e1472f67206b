"""A process that works in the background of a search, and ends with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

NICE = 19  # the trials have priority


def run_in_background() -> None:
    """Lower the priority of this process, and exit when its parent does.

    If memory runs out, the kernel kills this process before others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends this process
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _exit_with_parent() -> None:
    """Wait for the end of standard input, a pipe that the parent holds open while it lives."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGKILL)
