"""The executions of a trial, one for each fold of a cross-validation: their best epochs, together.

Each fold holds out other reviews, so that every review is classified by the model that has not
been trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from imdbtune.config.objectives import FOLDS_MEAN
from imdbtune.training.fit_data import fold_of_rows, validation_lengths
from imdbtune.training.length_groups import LengthGroup, accuracy_by_length
from imdbtune.training.saved_state import Array
from imdbtune.training.spec import Correctness, Epoch, Recorded, TrialSpec


@dataclass(frozen=True)
class Execution:
    """The result of one of a trial's executions; ``weights`` are those of the plain form."""

    weights: Sequence[Array]
    history: list[Epoch]
    best_epoch: int
    score: float
    pruned_after: int
    recorded: Recorded
    is_cut: bool = False  # ended from outside before its own end

    @property
    def best(self) -> Epoch:
        """The metrics of the best epoch."""
        return self.history[self._best_row]

    @property
    def best_right(self) -> Correctness:
        """Which validation reviews are classified right in the best epoch, (reviews,)."""
        right: Correctness = self.recorded.right[self._best_row]
        return right

    @property
    def _best_row(self) -> int:
        return [epoch["epoch"] for epoch in self.history].index(self.best_epoch)


def best_execution(executions: Sequence[Execution], spec: TrialSpec) -> Execution:
    """Return the execution with the best objective, the first of equals."""
    return max(executions, key=lambda execution: spec.sign * execution.score)


def best_of(history: Sequence[Epoch], spec: TrialSpec) -> tuple[int, float]:
    """Return the number and the objective of the best epoch, the first of equals.

    Without validation it is the last epoch: training metrics do not show which is best.
    """
    if not (spec.settings.hold_out and spec.settings.keep_best):
        return int(history[-1]["epoch"]), history[-1][spec.settings.measure]
    name = spec.settings.objective
    best = max(history, key=lambda epoch: (spec.sign * epoch[name], -epoch["epoch"]))
    return int(best["epoch"]), best[name]


def reported_epoch(
    history: Sequence[Epoch], is_last: bool, ended: Sequence[Execution], spec: TrialSpec
) -> Epoch:
    """Return what is reported of the last epoch of ``history``: in that of a fold also the mean.

    Args:
        history: of the current execution.
        is_last: whether the execution ends with it.
        ended: the executions before.
    """
    if not (is_last and spec.settings.folds):
        return history[-1]
    scores = [*(execution.score for execution in ended), best_of(history, spec)[1]]
    return {**history[-1], FOLDS_MEAN: fmean(scores)}


def whole_folds(executions: Sequence[Execution], spec: TrialSpec) -> Sequence[Execution]:
    """Return the executions that count: without a fold that was cut, unless it is the first."""
    is_cut = spec.settings.folds and executions[-1].is_cut
    return executions[:-1] if is_cut and len(executions) > 1 else executions


def joint_record(executions: Sequence[Execution], spec: TrialSpec) -> Recorded:
    """Return what a trial has recorded of its validation: the record of the best execution.

    Of a cross-validation, it is of one epoch: each review as in the best epoch of the fold that
    held it out; empty unless all folds have been trained.
    """
    if not spec.settings.folds:
        return best_execution(executions, spec).recorded
    if len(executions) < spec.settings.folds:
        return Recorded()
    folds = fold_of_rows(spec)
    right = np.empty((1, len(folds)), np.bool_)
    first = executions[0].recorded.predicted
    predicted = np.empty((len(folds), *first.shape[1:])) if len(first) else first
    for fold, execution in enumerate(executions):
        right[0, folds == fold] = execution.best_right
        if len(first):
            predicted[folds == fold] = execution.recorded.predicted
    return Recorded(right, predicted)


def length_groups(
    executions: Sequence[Execution], recorded: Recorded, spec: TrialSpec
) -> tuple[LengthGroup, ...]:
    """Return the accuracy by length of review in the best epoch; empty where it is unknown.

    Args:
        recorded: the :func:`joint_record` of the executions.
    """
    if not spec.settings.hold_out or not len(recorded.right):
        return ()
    folds = spec.settings.folds
    right = recorded.right[0] if folds else best_execution(executions, spec).best_right
    return accuracy_by_length(right, validation_lengths(spec))
