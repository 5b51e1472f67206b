"""Hash pairs of neighbouring words to ids, the rows of an embedding.

There are far more pairs than rows. The hash is arithmetic on the two ids, so every export format
computes the same one without a list of pairs: ONNX and :mod:`imdbtune.models.numpy_reference`
repeat it.

It is linear, so it is a lattice. Of the 137,274 pairs of 30,000 words that occur at least five
times in the training reviews of IMDB, 42.1 % share one of 262,144 rows with another such pair
(random hash: 40.7 %), and 87.7 % one of 65,536 (87.7 %). Only with more rows does the lattice cost
something: 21.5 % of 1,048,576 (12.3 %).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.data.corpus import PAD

if TYPE_CHECKING:
    from imdbtune.models.tensors import Tensor

# Primes; with ids up to 100,000 the sum stays below 2**31.
FIRST_FACTOR, SECOND_FACTOR = 7919, 9973


def following(ids: Tensor, steps: int = 1) -> Tensor:
    """Return the id that comes ``steps`` after each of the ids (batch, time); 0 after the last."""
    from keras import ops  # here, because export formats need only the factors

    return ops.pad(ids, [[0, 0], [0, steps]])[:, steps:]


def bigram_ids(ids: Tensor, buckets: int) -> Tensor:
    """Return the pair ids of word ids, both (batch, time).

    ::

        pair = (id * 7919 + next_id * 9973) mod (buckets - 1) + 1

    The last word's next id is 0. Padding stays 0.
    """
    from keras import ops

    pairs = ops.mod(ids * FIRST_FACTOR + following(ids) * SECOND_FACTOR, buckets - 1) + 1
    return ops.where(ops.equal(ids, PAD), 0, pairs)
