"""Keras without two packages that it imports for parts of it which are not used here.

They are a fifth of the time in which a search's first trials wait for their workers. This has to
be imported before Keras.
"""

import gc

from imdbtune.absent import absent

# Python looks for garbage ever again while packages are imported, which make none: a second of
# seven. It is the first import of a process that goes on to
# :mod:`imdbtune.cluster.forkserver_preload`.
gc.disable()

with absent("sklearn", "matplotlib.pyplot"):
    import keras

__all__ = ["keras"]
