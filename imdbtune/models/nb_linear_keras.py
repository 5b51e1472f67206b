"""The linear model of :mod:`imdbtune.models.nb_linear` as plain Keras layers, for ensembles.

Its table is an embedding of size 1; row 0 holds the bias. Every export format has the operations
that hash an n-gram to its row.
"""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from imdbtune.models.hashed_ngrams import feature_rows

LINEAR = "linear"  # the name of the network


def linear_network(table: npt.NDArray[np.float32]) -> keras.Model:
    """Return the model of a table: ids (batch, time), padded at the front, to (batch, 1).

    Args:
        table: (rows,), from :func:`imdbtune.models.nb_linear.as_table`.
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    weights = layers.Embedding(len(table), 1, name="features")
    # Sorting lets each row count once. Row 0 is always among them, as the last word's pair with the
    # following 0 goes there, and so adds the bias.
    rows = ops.sort(ops.concatenate(feature_rows(ids, len(table)), axis=1), axis=1)
    previous = ops.pad(rows[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
    is_new = ops.cast(ops.not_equal(rows, previous), "float32")
    logit = ops.sum(weights(rows)[:, :, 0] * is_new, axis=1, keepdims=True)
    network = keras.Model(ids, ops.sigmoid(logit), name=LINEAR)
    weights.set_weights([table[:, None]])
    return network


def table_of(network: keras.Model) -> npt.NDArray[np.float32]:
    """Return the weights of the table of a :func:`linear_network`, (rows, 1)."""
    return np.asarray(network.get_layer("features").get_weights()[0])
