"""The garbage collector in processes that have imported all libraries."""

import gc


def spare_imports() -> None:
    """Leave what has been imported to itself, and collect garbage less often.

    Keras collects garbage before each training, which takes half a second among so many objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
