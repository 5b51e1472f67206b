"""Packages that another one imports for parts of it which are not used here are left out.

Some take seconds to import, and who imports them does without where they are not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """Let imports find them not installed, unless they have been imported before.

    Afterwards they can be imported as ever. Meanwhile other threads cannot import them either.
    """
    left_out = [name for name in packages if name not in sys.modules]
    for name in left_out:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's way to say: not here
    try:
        yield
    finally:
        for name in left_out:
            del sys.modules[name]
