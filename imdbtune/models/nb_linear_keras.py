"""The linear model of :mod:`imdbtune.models.nb_linear` as plain Keras layers, for ensembles.

Its features are the rows of one table, an embedding: the two ids of a pair, and the weight; with
more than two labels, the weights of each label. A word is the pair (0, word), as there is no word
0; the first row, (0, 0), holds the bias. The rows are sorted, so a binary search finds a pair;
every export format has the operations for that.
"""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from imdbtune.models.hashed_bigrams import following
from imdbtune.models.nb_linear import LinearModel
from imdbtune.models.tensors import Tensor

LINEAR = "linear"  # the name of the network
# 32-bit floats represent all integers up to here exactly.
LARGEST_ID = 2**24


def as_table(model: LinearModel, vocabulary: int) -> npt.NDArray[np.float32]:
    """Return the table of a model, without ids from ``vocabulary`` on.

    It is (features + 1, 3), with more than two labels (features + 1, 2 + labels).
    """
    first, second = np.divmod(model.keys, model.vocabulary)
    known = (first < min(vocabulary, LARGEST_ID)) & (second < min(vocabulary, LARGEST_ID))
    rows = np.column_stack([first[known], second[known], model.weights[known]])
    bias = np.append([0.0, 0.0], model.bias)
    return np.concatenate([bias[None], rows]).astype(np.float32)


def linear_network(table: npt.NDArray[np.float32]) -> keras.Model:
    """Return the model of a table: ids (batch, time), padded at the front, to probabilities.

    They are (batch, 1), or (batch, labels).
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    rows = layers.Embedding(len(table), table.shape[1], name="features")
    last = len(table) - 1
    first = ops.cast(ops.concatenate([ops.zeros_like(ids), ids], axis=1), "float32")
    second = ops.cast(ops.concatenate([ids, following(ids)], axis=1), "float32")
    index = ops.zeros_like(ops.concatenate([ids, ids], axis=1))
    for step in search_steps(len(table)):
        candidate = index + step
        row = rows(ops.minimum(candidate, last))
        advance = ops.logical_and(_not_after(row, first, second), ops.less_equal(candidate, last))
        index = ops.where(advance, candidate, index)
    row = rows(index)
    found = ops.logical_and(ops.equal(row[:, :, 0], first), ops.equal(row[:, :, 1], second))
    # Pairs that are not in the table go to row 0; the last word with its following 0 always does.
    # Sorting lets each row count once, and row 0 not at all.
    index = ops.sort(ops.where(found, index, 0), axis=1)
    is_new = ops.cast(ops.not_equal(index[:, 1:], index[:, :-1]), "float32")
    if table.shape[1] == 3:
        total = ops.sum(rows(index)[:, 1:, 2] * is_new, axis=1, keepdims=True)
        bias = rows(ops.zeros_like(ids[:, :1]))[:, :, 2]
        output = ops.sigmoid(total + bias)
    else:
        total = ops.sum(rows(index)[:, 1:, 2:] * ops.expand_dims(is_new, -1), axis=1)
        each = ops.sigmoid(total + rows(ops.zeros_like(ids[:, :1]))[:, 0, 2:])
        output = each / ops.sum(each, axis=-1, keepdims=True)
    network = keras.Model(ids, output, name=LINEAR)
    rows.set_weights([table])
    return network


def search_steps(rows: int) -> list[int]:
    """Return the steps of a binary search from row 0: decreasing powers of 2."""
    return [2**power for power in reversed(range((rows - 1).bit_length()))]


def _not_after(row: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return whether a row of the table is sorted before the pair, or equals it."""
    same = ops.logical_and(ops.equal(row[:, :, 0], first), ops.less_equal(row[:, :, 1], second))
    return ops.logical_or(ops.less(row[:, :, 0], first), same)


def table_of(network: keras.Model) -> npt.NDArray[np.float32]:
    """Return the table of a :func:`linear_network`."""
    return np.asarray(network.get_layer("features").get_weights()[0])
