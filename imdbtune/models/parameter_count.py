"""The number of weights of a model, without building it."""

from __future__ import annotations

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams


def count_parameters(params: TrialParams) -> int:
    """Return what ``keras.Model.count_params`` returns for the model of these hyperparameters."""
    cell = CELLS[params.rnn]
    directions = 2 if params.bidirectional else 1
    total = (params.vocabulary + params.bigrams) * params.embedding
    inputs = params.embedding
    for _ in range(params.depth):
        rows = inputs + params.units + cell.biases
        total += directions * cell.gates * params.units * rows
        inputs = directions * params.units
    if "attention" in params.pooling:
        total += inputs
    features = inputs * len(params.pooling.split("_"))
    features += params.embedding if params.skip else 0
    return total + features * (2 if params.layer_norm else 0) + features + 1
