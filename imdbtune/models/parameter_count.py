"""The number of weights of a model, without building it."""

from __future__ import annotations

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.models.hashed_ngrams import KINDS


def count_parameters(params: TrialParams) -> int:
    """Return what ``keras.Model.count_params`` returns for the model of these hyperparameters.

    The weights of the linear model are not among them, as they are not trained with the others.
    """
    cell = CELLS[params.rnn]
    directions = 2 if params.bidirectional else 1
    total = (params.vocabulary + params.bigrams) * params.embedding
    inputs = vector_size(params)
    for _ in range(params.depth):
        rows = inputs + params.units + cell.biases
        total += directions * cell.gates * params.units * rows
        inputs = directions * params.units
    if "attention" in params.pooling:
        total += inputs
    features = inputs * len(params.pooling.split("_"))
    features += vector_size(params) if params.skip else 0
    return total + features * (2 if params.layer_norm else 0) + features + 1


def vector_size(params: TrialParams) -> int:
    """Return the number of inputs of the first recurrent layer for each token."""
    return params.embedding + (KINDS if params.ngrams else 0)
