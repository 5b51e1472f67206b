"""Pairs of neighbouring words as ids of their own: what a table of ``buckets`` vectors is read by.

There are far more pairs than vectors. Which ones share a vector is settled by a little
arithmetic on the two ids, so that every format of export computes the same without a list of
pairs: ONNX and :mod:`imdbtune.models.numpy_reference` have it as well.
"""

from __future__ import annotations

from typing import Any

from imdbtune.data.corpus import PAD

# Primes; with ids up to 100,000 the sum stays below 2**31.
FIRST, SECOND = 7919, 9973


def following(ids: Any) -> Any:
    """For each word of ids (batch, time) the next one; 0 for the last."""
    from keras import ops  # the formats of export want the primes, and no TensorFlow

    return ops.pad(ids[:, 1:], [[0, 0], [0, 1]])


def bigram_ids(ids: Any, buckets: int) -> Any:
    """For each word of ids (batch, time) the id, from 1, of it and the next one; 0 for padding.

    The next one of the last word is 0.
    """
    from keras import ops

    mixed = ops.mod(ids * FIRST + following(ids) * SECOND, buckets - 1) + 1
    return ops.where(ops.equal(ids, PAD), 0, mixed)
