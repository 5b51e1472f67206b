"""Search spaces as Keras Tuner's hyperparameters, and the answers of its oracles."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypedDict

import keras_tuner
from keras_tuner.engine import hyperparameters as kinds

# Not exported: conditional_scope() needs each parent to depend on all those before it.
# Seen in keras-tuner 1.4.8.
from keras_tuner.src.engine.conditions import Parent

from imdbtune.config.hyperparameters import Scalar
from imdbtune.config.search_space import Dimension, SearchSpace


def keras_tuner_space(space: SearchSpace) -> keras_tuner.HyperParameters:
    """Return the searched dimensions as Keras Tuner's hyperparameters."""
    found = keras_tuner.HyperParameters()
    found.merge([_hyperparameter(d, space.constants.keys()) for d in space.searched])
    return found


def _hyperparameter(dimension: Dimension, constants: Collection[str]) -> kinds.HyperParameter:
    """Return a dimension as Keras Tuner's hyperparameter, with its conditions."""
    conditions = [
        Parent(parent, list(values))
        for parent, values in dimension.when
        if parent not in constants  # it always holds
    ]
    steps = dimension.grid() if dimension.step and not dimension.is_int else None
    if dimension.values or steps:  # Keras Tuner miscounts inexact steps of floats
        values = list(dimension.values or steps or ())
        return kinds.Choice(dimension.name, values, conditions=conditions)
    return (kinds.Int if dimension.is_int else kinds.Float)(
        dimension.name,
        dimension.typed(dimension.low),
        dimension.typed(dimension.high),
        step=dimension.typed(dimension.step) if dimension.step is not None else None,
        sampling=dimension.sampling,
        conditions=conditions,
    )


class Populated(TypedDict, total=False):
    """What Keras Tuner's ``populate_space`` returns."""

    status: str
    values: dict[str, Scalar]


def populated(values: dict[str, Scalar] | None) -> Populated:
    """Return the answer of ``populate_space`` for an initial trial."""
    return {"status": "STOPPED"} if values is None else {"status": "RUNNING", "values": values}
