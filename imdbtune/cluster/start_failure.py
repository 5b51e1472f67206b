"""Say why worker processes did not start, from what they have written until then.

A worker has a log of its own only after its start. Before that it writes to the standard error of
the process from which it is forked: a file that :func:`record_output` has given to that process.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from imdbtune.errors import SearchAborted, escape_control

TAIL_BYTES = 2**16
# In the message of multiprocessing, which runs the main module again in each process.
UNGUARDED = "before the\n        current process has finished its bootstrapping phase"
_ERROR_LINE = re.compile(r"^[\w.]*(?:Error|Exception|Exit)\b.*", re.MULTILINE)
_SHORTAGE = re.compile(r"\[Errno \d+\]|MemoryError")

_output: IO[bytes] | None = None


@contextmanager
def record_output() -> Iterator[None]:
    """Give a process that the block starts a file as standard error; only the first time."""
    global _output
    if _output is not None:
        yield
        return
    real = -1
    with suppress(OSError):  # too few descriptors, no standard error: the process gets ours
        _output = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this process lives
        real = os.dup(2)
        os.dup2(_output.fileno(), 2)
    try:
        yield
    finally:
        if real >= 0:
            os.dup2(real, 2)
            os.close(real)


def start_failure(error: BaseException) -> SearchAborted:
    """Return the error for worker processes that did not start because of ``error``."""
    text = _recorded()
    hint = "0 workers train in this process"
    if UNGUARDED in text:
        return SearchAborted(
            "the worker processes did not start, because they run the script that starts the "
            f'search again: put its code under `if __name__ == "__main__":`. {hint}.'
        )
    reasons = [*reversed(_ERROR_LINE.findall(text)), *_causes(error)]
    # What fails for lack of a resource makes other things fail.
    shortages = [reason for reason in reasons if _SHORTAGE.search(reason)]
    reason = escape_control([*shortages, *reasons][0])[:300].rstrip(".")
    return SearchAborted(f"the worker processes did not start ({reason}). {hint}.")


def _recorded() -> str:
    if _output is None:
        return ""
    size = os.fstat(_output.fileno()).st_size
    tail = os.pread(_output.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
    return tail.decode("utf-8", errors="replace")


def _causes(error: BaseException) -> list[str]:
    """Return the error and all that it follows from in a line each, the first cause first."""
    chain = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    return [" ".join(str(each).split()) or type(each).__name__ for each in reversed(chain)]
