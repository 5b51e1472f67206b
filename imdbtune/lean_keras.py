"""Keras without two packages that it imports for parts of it which are not used here.

They are a fifth of the time in which a search's first trials wait for their workers. Keras does
without them where they are not installed, and who needs them later can import them. This has to
be imported before Keras.
"""

import sys

SPARED = ("sklearn", "matplotlib.pyplot")

_absent = [name for name in SPARED if name not in sys.modules]
for _name in _absent:
    sys.modules[_name] = None  # type: ignore[assignment]  # Python's way to say: not here
try:
    import keras
finally:
    for _name in _absent:
        del sys.modules[_name]

__all__ = ["keras"]
