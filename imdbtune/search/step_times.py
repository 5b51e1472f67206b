"""A model of the time of a training: linear in what its steps compute, fitted to timed steps.

A step iterates over the tokens in each layer, multiplies matrices in each iteration, and updates
all weights, most of which belong to tables of vectors. The time of each kind of work per unit is
fitted to the timed trials, so that each of these times is at least 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import names_of
from imdbtune.models.parameter_count import count_parameters, vector_size

if TYPE_CHECKING:
    from imdbtune.config.hyperparameters import Scalar, TrialParams
    from imdbtune.training.spec import StepTimes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Amount:
    """What some steps of a trial compute.

    Args:
        steps: of training; a step of validation counts for a share.
        time_steps: tokens of the longest review of each batch, summed over these steps.
    """

    steps: float
    time_steps: float


def multiplications(params: TrialParams) -> float:
    """Return the multiplications of the recurrent layers and the embedding for each token."""
    directions = 2 if params.bidirectional else 1
    gates = CELLS[params.rnn].gates
    inputs, total = vector_size(params), params.embedding
    for _ in range(params.depth):
        total += directions * gates * params.units * (inputs + params.units)
        inputs = directions * params.units
    return float(total)


def work(params: TrialParams, amount: Amount) -> Floats:
    """Return the kinds of work that take time: iterations, multiplications, updates and steps.

    Of a user's own model it is known only how many tokens it reads in how many steps.
    """
    if params.own is not None:
        return np.array([amount.time_steps * params.batch_size, amount.steps])
    layers = params.depth * (2 if params.bidirectional else 1)
    averaged = 1.5 if params.ema else 1.0  # an average of the weights is half an update more
    return np.array(
        [
            amount.time_steps * layers,
            amount.time_steps * params.batch_size * multiplications(params),
            amount.steps * count_parameters(params) * averaged,
            amount.steps,
        ]
    )


@dataclass(frozen=True)
class TimeModel:
    """How long trials take.

    Args:
        rates: seconds for each kind of work.
        start_s: from the start of a training to the end of its first step.
    """

    rates: Floats
    start_s: float

    def seconds(self, params: TrialParams, amount: Amount) -> float:
        """Return the seconds of so many steps."""
        return float(work(params, amount) @ self.rates)


def fit(trials: Sequence[TrialParams], timed: Sequence[StepTimes]) -> TimeModel:
    """Fit the model to the timed steps of some trials; relative errors count."""
    from scipy.optimize import nnls

    seconds = np.array([times.seconds for times in timed])
    rows = [
        work(params, Amount(times.steps, times.time_steps))
        for params, times in zip(trials, timed, strict=True)
    ]
    design = np.array(rows) / np.maximum(seconds, 1e-9)[:, None]
    scale = np.maximum(design.max(axis=0), 1e-300)
    rates = nnls(design / scale, np.ones(len(rows)))[0] / scale
    return TimeModel(rates, float(np.mean([times.start_s for times in timed])))


def most_different(
    trials: Sequence[TrialParams], amounts: Sequence[Amount], count: int
) -> list[int]:
    """Return the indices of ``count`` trials whose work differs most, the one with the most first.

    Each next one is the one farthest from all those before it (Gonzalez 1985), by the logarithms of
    the kinds of work in a step, and by the cell. Of users' own models, what they draw counts.
    """
    pairs = list(zip(trials, amounts, strict=True))
    loads = [np.log(work(params, amount) / max(amount.steps, 1.0))[:3] for params, amount in pairs]
    points = np.column_stack([np.array(loads), _kinds(trials)])
    largest = 1 if trials[0].own is None else 0  # the column with what takes most of the time
    chosen = [int(points[:, largest].argmax())]
    while len(chosen) < min(count, len(points)):
        distances = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] <= 0:
            break
        chosen.append(farthest)
    return chosen


def _kinds(trials: Sequence[TrialParams]) -> Floats:
    """Return what distinguishes trials besides their work, as coordinates from 0 to 1.

    It is the cell, or what an own model draws.
    """
    if trials[0].own is None:
        cells = sorted({params.rnn for params in trials})
        return np.array([[params.rnn == cell for cell in cells] for params in trials], np.float64)
    columns = []
    for name in names_of(trials):
        values = [params.value(name) for params in trials]
        known = sorted({value for value in values if value is not None}, key=_order)
        columns.append([known.index(v) / len(known) if v is not None else -1.0 for v in values])
    return np.array(columns, np.float64).T


def _order(value: Scalar) -> tuple[bool, Scalar]:
    return isinstance(value, str), value
