"""Exceptions, named by what the caller does next.

===================== ==================================== =========
class                 what the caller does                 exit code
===================== ==================================== =========
``UserError``         fix the input and run again          2
``Deleted``           restore the run in MLflow            2
``NotInStore``        name its store, or write it anew     2
``TrialFailed``       log it and continue the search       -
``SearchAborted``     stop; finished trials are saved      1
``ExportFailed``      choose another format                1
``Busy``              wait for the other process           1
``DiskFull``          free disk space, then resume         1
``NotDelivered``      deliver the results later            1
``FolderRemoved``     start a new search                   1
``Interrupted``       continue the task, or leave it       130
===================== ==================================== =========
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImdbtuneError(Exception):
    """Base of every error that imdbtune raises on purpose."""


class UserError(ImdbtuneError):
    """The input is invalid: the message says what it is, what is allowed and what to do."""


class Deleted(UserError):
    """The run is deleted: it is in MLflow's bin."""


class NotInStore(UserError):
    """The tracking store does not exist, or has no such search.

    Args:
        reference: name or run id of the search; empty: any.
    """

    def __init__(self, message: str, reference: str = "") -> None:
        super().__init__(message)
        self.reference = reference


class TrialFailed(ImdbtuneError):
    """One trial failed; the search continues without it."""


class SearchAborted(ImdbtuneError):
    """The search cannot continue; finished trials are saved."""


class ExportFailed(ImdbtuneError):
    """A model cannot be exported to a format, or predicts differently in it; nothing is written."""


class Busy(SearchAborted):
    """Another process is running the search."""


class DiskFull(SearchAborted):
    """The disk is full; earlier writes are complete."""


class NotDelivered(SearchAborted):
    """The work is done, but some results are not in MLflow yet; they are saved on disk."""


class FolderRemoved(SearchAborted):
    """The folder of a search was deleted while it ran, so it cannot be resumed."""


class Interrupted(KeyboardInterrupt):
    """A task was interrupted, and its runs are closed; the message says how to continue it."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython (seen in 9.18) shows instead of a traceback."""
        return [str(self)]


def short_repr(value: object, limit: int = 80) -> str:
    """Return ``repr(value)`` on one line for a message, shortened to ``limit`` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # integers with thousands of digits, or deep nesting
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 4] + "..." + text[-1]


def first_line(error: BaseException, limit: int = 200) -> str:
    """Return the first line of an error's message, or its type if that is empty, for a sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0][:limit].rstrip(".")


def last_line(output: str, limit: int = 200) -> str:
    """Return the last line that a process has written; empty without any."""
    return (output.strip().splitlines() or [""])[-1][:limit]


def quote_path(path: object) -> str:
    """Return a quoted path for a message, shortened to 300 characters."""
    return short_repr(str(path), limit=300)


def escape_control(text: str) -> str:
    """Return ``text`` on one line, with control characters escaped."""
    if text.isprintable():  # fast path: nearly all of the thousands of tags of a search
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unknown_choice(kind: str, value: object, allowed: Iterable[object]) -> UserError:
    """Return a ``UserError`` that lists the allowed values and suggests the closest one."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UserError(f"{kind} {short_repr(value)} is not known; allowed: {', '.join(names)}.{hint}")
