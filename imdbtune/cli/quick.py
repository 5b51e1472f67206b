"""Short commands: nothing is imported or looked through that they do not need."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

NOT_FOR_READING = ("pandas",)
ALONE: ContextVar[bool] = ContextVar("alone", default=False)  # the process runs one command only


@contextmanager
def uncollected() -> Iterator[None]:
    """Pauses the garbage collector, and spares it what has been made until then.

    A thousand trials are some 50,000 objects that all stay to the end of the command. To look
    through them again and again for what could go, and once more at the end of the process, takes
    longer than to read them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def small_mlflow() -> Iterator[None]:
    """Has MLflow imported as its smaller package, mlflow-skinny, is: without pandas.

    pandas and the SciPy that comes with it take some tenths of a second to import. This is for
    commands that only read runs, in a process of their own: what MLflow makes of data frames is
    missing from it afterwards. pandas itself can be imported again when the block is left.
    """
    absent = [name for name in NOT_FOR_READING if name not in sys.modules and ALONE.get()]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: not to be found
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
