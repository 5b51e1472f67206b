"""The linear model's weights of the n-grams at each word, as further inputs of a recurrent network.

The network reads, with each word, the weights in the linear model of that word and of the pair and
the triple that begin there, and those that they have in addition at the end of a review
(:mod:`imdbtune.models.nb_linear`), and so how the words speak for or against a label; what they
mean together is left to the recurrent layers. Each n-gram counts wherever it occurs, while the
linear model counts it once a review.

In training the weights of a review have to come from a linear model that was not trained on it
(:mod:`imdbtune.training.out_of_fold`). Otherwise they would repeat its label, and the network would
learn to believe them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from keras import layers

from imdbtune.data.corpus import Split
from imdbtune.models.hashed_ngrams import feature_keys, feature_rows, table_rows
from imdbtune.models.nb_linear import LinearModel, as_table
from imdbtune.models.tensors import Tensor

Weights = npt.NDArray[np.float32]

SCALE = 3.0  # of the weights, which brings them to the size of a word vector's numbers
NGRAMS = "ngrams"  # name of the layer with the table


def input_table(model: LinearModel) -> Weights:
    """Return the table of a network: scaled weights (rows, outputs), and 0 in row 0."""
    table = SCALE * as_table(model).reshape(model.rows, -1)
    table[0] = 0.0
    return table


def inputs_by_token(model: LinearModel, split: Split) -> Weights:
    """Return the inputs of a network at each token of the reviews, (tokens, 6 * outputs)."""
    table = input_table(model)
    found = [
        table[np.where(counts, table_rows(keys, len(table)), 0)]
        for keys, counts in feature_keys(split)
    ]
    return np.concatenate(found, axis=1)


def ngram_vectors(ids: Tensor, rows: int, outputs: int, masked: bool) -> list[Tensor]:
    """Return the inputs at each of the ids (batch, time), from a table that is set later.

    Args:
        ids: 0 is padding.
        rows: of the table.
        outputs: of the model, columns of the table.
        masked: mask positions without a word.

    Returns:
        For each kind of n-grams (batch, time, outputs).
    """
    table = layers.Embedding(rows, outputs, mask_zero=masked, trainable=False, name=NGRAMS)
    return [table(found) for found in feature_rows(ids, rows)]
