"""The linear model of words and pairs as plain Keras layers, to be averaged with others.

Its features are the rows of one table, an embedding: the two ids of a pair, and the weight. A word
is the pair (0, word), as there is no word 0; the first row, (0, 0), holds the bias. Rows are in
order, so that a pair is found by halving the table again and again: every format of export has what
that needs, and the probabilities are those of :mod:`imdbtune.models.nb_linear`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from imdbtune.models.hashed_bigrams import following
from imdbtune.models.nb_linear import LinearModel

LINEAR = "linear"  # the name of the network
# Numbers up to here are whole as 32-bit floats.
LARGEST_ID = 2**24


def as_table(model: LinearModel, vocabulary: int) -> npt.NDArray[np.float32]:
    """Its features as (features + 1, 3); those with ids from ``vocabulary`` on are left out."""
    first, second = np.divmod(model.keys, model.vocabulary)
    kept = (first < min(vocabulary, LARGEST_ID)) & (second < min(vocabulary, LARGEST_ID))
    rows = np.stack([first[kept], second[kept], model.weights[kept]], axis=1)
    return np.concatenate([[[0.0, 0.0, model.bias]], rows]).astype(np.float32)


def linear_network(table: npt.NDArray[np.float32]) -> keras.Model:
    """Ids (batch, time), padded at the front, to probabilities (batch, 1)."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    rows = layers.Embedding(len(table), 3, name="features")
    last = len(table) - 1
    first = ops.cast(ops.concatenate([ops.zeros_like(ids), ids], axis=1), "float32")
    second = ops.cast(ops.concatenate([ids, following(ids)], axis=1), "float32")
    place = ops.zeros_like(ops.concatenate([ids, ids], axis=1))
    for step in steps(len(table)):
        tried = place + step
        row = rows(ops.minimum(tried, last))
        reached = _not_after(row, first, second)
        place = ops.where(ops.logical_and(reached, ops.less_equal(tried, last)), tried, place)
    row = rows(place)
    found = ops.logical_and(ops.equal(row[:, :, 0], first), ops.equal(row[:, :, 1], second))
    # What is not there goes to the first row, as the last word with nothing after it always does.
    # Then they are put in order, so that each counts once, and the first row not at all.
    place = ops.sort(ops.where(found, place, 0), axis=1)
    new = ops.cast(ops.not_equal(place[:, 1:], place[:, :-1]), "float32")
    total = ops.sum(rows(place)[:, 1:, 2] * new, axis=1, keepdims=True)
    bias = rows(ops.zeros_like(ids[:, :1]))[:, :, 2]
    made = keras.Model(ids, ops.sigmoid(total + bias), name=LINEAR)
    rows.set_weights([table])
    return made


def steps(rows: int) -> list[int]:
    """Powers of 2, falling, whose sums reach every row but the first."""
    return [2**power for power in reversed(range((rows - 1).bit_length()))]


def _not_after(row: Any, first: Any, second: Any) -> Any:
    """Whether a row of the table comes no later than the pair."""
    same = ops.logical_and(ops.equal(row[:, :, 0], first), ops.less_equal(row[:, :, 1], second))
    return ops.logical_or(ops.less(row[:, :, 0], first), same)


def table_of(network: keras.Model) -> npt.NDArray[np.float32]:
    """The table of a :func:`linear_network`."""
    return np.asarray(network.get_layer("features").get_weights()[0])
