"""Short commands: nothing is looked through that they do not need."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
