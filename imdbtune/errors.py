"""Exceptions, named by what the caller does next.

=================== ==================================== =========
class               what the caller does                 exit code
=================== ==================================== =========
``UserError``       fix the input and run again          2
``Deleted``         bring the run back in MLflow         2
``TrialFailed``     note it and go on with the search    -
``SearchAborted``   stop; what was finished is kept      1
``ExportFailed``    ask for another format               1
``Busy``            wait for the other process           1
``DiskFull``        make room, then go on                1
``NotDelivered``    bring the results in later           1
=================== ==================================== =========
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImdbtuneError(Exception):
    """Base of every error that imdbtune raises on purpose."""


class UserError(ImdbtuneError):
    """The input is wrong: the message says what came, what is allowed and what to do."""


class Deleted(UserError):
    """What is asked for is in MLflow's bin."""


class TrialFailed(ImdbtuneError):
    """One trial cannot be finished; the search goes on without it."""


class SearchAborted(ImdbtuneError):
    """The search cannot go on; finished trials are kept."""


class ExportFailed(ImdbtuneError):
    """A model cannot be had in a format, or answers otherwise in it; nothing was written."""


class Busy(SearchAborted):
    """Another process is at work on the search."""


class DiskFull(SearchAborted):
    """There is no room left on the disk; what was written before is whole."""


class NotDelivered(SearchAborted):
    """The work is done, but MLflow has not got all of it; the rest is on disk."""


def short_repr(value: object, limit: int = 80) -> str:
    """``repr(value)`` for a message: one line, escaped, cut to ``limit`` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, deep nesting
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 4] + "..." + text[-1]


def quote_path(path: object) -> str:
    """A file or folder in a message, whole within reason."""
    return short_repr(str(path), limit=300)


def escape_control(text: str) -> str:
    """``text`` on one line, with all that steers a terminal escaped."""
    if text.isprintable():  # as nearly all of the thousands of tags of a search are
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unknown_choice(what: str, came: object, allowed: Iterable[object]) -> UserError:
    """A ``UserError`` that lists the allowed values and names the nearest one."""
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(str(came), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"{what} {short_repr(came)} is not known; allowed: {', '.join(names)}.{hint}")
