"""Turn the signals that end a command into KeyboardInterrupt, once.

Whoever runs trials closes their runs when it is raised. That takes a few seconds, which a second
signal does not cut short.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from imdbtune.cli.library_output import stderr_descriptor

CODE = 130
HANGUP_CODE = 129
_AGAIN = b"imdbtune: closing the runs; press Ctrl-C again to stop without that.\n"
_SIGHUP = getattr(signal, "SIGHUP", None)  # not on Windows

_received: list[int] = []


def install() -> None:
    """Handle Ctrl-C, SIGTERM and SIGHUP from now on; a signal that is ignored stays ignored.

    ``nohup`` ignores SIGHUP, and a shell ignores Ctrl-C for what it starts in the background.
    """
    _received.clear()
    for number in (signal.SIGINT, signal.SIGTERM, *([_SIGHUP] if _SIGHUP else [])):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def is_interrupted() -> bool:
    """Return whether a signal has come."""
    return bool(_received)


def exit_code() -> int:
    """Return the exit code of an interrupted command: 129 if its terminal was closed, else 130."""
    return HANGUP_CODE if _received[:1] == [_SIGHUP] else CODE


def _interrupt(number: int, frame: object) -> None:
    """Raise KeyboardInterrupt at the first signal, and at the third and later ones."""
    _received.append(number)
    if len(_received) != 2:
        raise KeyboardInterrupt
    with suppress(OSError):  # the terminal is gone
        os.write(stderr_descriptor(), _AGAIN)
