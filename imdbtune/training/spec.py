"""The specification and the result of one trial: small, frozen and picklable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt

from imdbtune.config.extensions import DEFAULT_OBJECTIVE, measured_always
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.objectives import error_name, larger_is_better
from imdbtune.config.own_code import NO_CODE, OwnCode
from imdbtune.config.own_model import ModelSource
from imdbtune.config.schema import SearchConfig
from imdbtune.config.sections import NO_CLASS_WEIGHT
from imdbtune.data.batches import VALIDATION_SHARE
from imdbtune.data.folds import Folds
from imdbtune.models.metrics.bootstrap import standard_error
from imdbtune.training.confusion import Confusion
from imdbtune.training.length_groups import LengthGroup

Epoch = dict[str, float]
Correctness = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
# What statistics of trials are computed from: see imdbtune.tracking.predictions.
Gains = npt.NDArray[np.bool_ | np.float64]
NOT_MEASURED: Correctness = np.empty((0, 0), np.bool_)
NO_PREDICTIONS: Floats = np.empty(0)
# Epochs of searches that take longer, in seconds, are kept for the next attempt at their trial. A
# checkpoint costs milliseconds.
CHECKPOINT_AFTER_S = 20.0
# Called with the execution (from 0) and the epoch; a true answer ends the trial with this epoch.
OnEpoch = Callable[[int, Epoch], bool | None]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything besides the hyperparameters and the data that determines a trial's result."""

    reviews: int = 0  # number of training reviews used; 0: all
    seed: int = 0
    executions: int = 1  # trainings with successive seeds
    folds: int = 0  # of a cross-validation, whose executions hold out one each; 0: none
    fold_seed: int = 0  # of the division into folds
    objective: str = DEFAULT_OBJECTIVE
    epochs: int = 4  # last epoch
    patience: int = 0  # epochs without improvement before training stops; 0: never
    batching: str = "buckets"  # or "padded"
    compile: str = "auto"  # with XLA: "auto", "on" or "off"
    class_weight: str = NO_CLASS_WEIGHT  # or "balanced"
    initial_epoch: int = 0  # epochs that an earlier trial has trained
    hold_out: bool = True  # validate on some of the reviews; otherwise train on all
    validation_share: float = VALIDATION_SHARE  # of the reviews, the last ones
    schedule_epochs: int = 0  # length of the learning-rate schedule; 0: ``epochs``
    keep_best: bool = True  # the weights of the best epoch; otherwise of the last one
    metrics: str = ""  # names of those that not every search has, with commas

    @classmethod
    def of(cls, config: SearchConfig) -> TrainingSettings:
        """Return the settings of a search's trials that continue no other trial."""
        return cls(
            reviews=config.data.reviews,
            seed=config.tuner.seed,
            executions=config.tuner.executions,
            folds=config.tuner.folds,
            fold_seed=config.tuner.seed if config.tuner.folds else 0,
            objective=config.tuner.main_objective,
            epochs=config.training.epochs,
            patience=config.training.patience,
            batching=config.training.batching,
            compile=config.training.compile,
            metrics=",".join(config.further_metrics),
            class_weight=config.training.class_weight,
        )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics: those of each search, and those of this one."""
        return (*measured_always(), *(self.metrics.split(",") if self.metrics else ()))

    @property
    def trainings(self) -> int:
        """The number of trainings of a trial: its executions, one for each fold if it has any."""
        return self.folds or self.executions

    @property
    def division(self) -> Folds:
        """The folds of the reviews."""
        return Folds(self.folds, self.fold_seed)

    @property
    def measure(self) -> str:
        """The metric of the score: the objective, without validation its training counterpart."""
        return self.objective if self.hold_out else self.objective.removeprefix("val_")


@dataclass(frozen=True)
class TrialSpec:
    """Everything that determines the result of one trial."""

    params: TrialParams
    corpus: Path  # folder of the corpus
    folder: Path  # for the saved model and state
    settings: TrainingSettings = TrainingSettings()
    state: Path | None = None  # from which training continues
    keep_state: bool = False  # save the state after the last epoch
    checkpoint_after_s: float = math.inf  # save a checkpoint after epochs that took longer
    code: OwnCode = NO_CODE  # of the user's own; params has what its model draws
    fold: int = 0  # that is held out, if there are folds; the trainer goes through all

    @property
    def source(self) -> ModelSource | None:
        """The source of a user's own model."""
        return self.code.model

    @property
    def sign(self) -> float:
        """1, or -1 if smaller values of the objective are better."""
        is_larger = larger_is_better(self.settings.objective, self.code.metrics)
        return 1.0 if is_larger else -1.0


@dataclass(frozen=True)
class Recorded:
    """What a training has recorded of its validation.

    Args:
        right: (epochs, reviews), whether each review is classified right; empty without validation.
        predicted: probabilities of the best epoch, (reviews,) or (reviews, classes); empty where
            they are not needed: with two labels by no metric.
    """

    right: Correctness = field(default_factory=lambda: NOT_MEASURED)
    predicted: Floats = field(default_factory=lambda: NO_PREDICTIONS)


@dataclass(frozen=True)
class StepTimes:
    """Durations of the first steps of a training."""

    start_s: float  # building the model and the first step, with tracing and compilation
    seconds: float  # of the later steps
    steps: int  # the later ones
    time_steps: int  # tokens of the longest review of each of these steps, summed


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    With several executions, ``history`` and ``model`` are those of the one with the best objective.
    After a cross-validation, ``best_epoch`` is the mean over the folds.
    ``history`` has a dict for each epoch: ``epoch`` (from 1), ``seconds``, and the value of each
    metric by its name, such as ``loss``; with held-out reviews also ``val_loss``.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    scores: tuple[float, ...]  # the best objective of each execution
    seconds: float
    parameter_count: int
    model: Path  # a .keras file of plain layers
    state: Path | None = None
    compiled: bool = False
    # Epoch (of a cross-validation: fold) after which it was ended from outside; 0: it was not.
    pruned_after: int = 0
    # (epochs, validation reviews), whether each is classified right; without validation empty.
    # After a cross-validation (1, reviews): each as in the best epoch of the fold that held it out.
    right: Correctness = field(default_factory=lambda: NOT_MEASURED, compare=False, repr=False)
    by_length: tuple[LengthGroup, ...] = ()  # of the best epoch; without validation empty
    confusion: Confusion | None = None  # of the best epoch; None: two labels, or no validation
    # Draws of the objective in the best epoch, of imdbtune.models.metrics.bootstrap; None: its
    # standard error has a formula
    draws: Floats | None = field(default=None, compare=False, repr=False)
    objective: str = DEFAULT_OBJECTIVE
    folds: tuple[Epoch, ...] = ()  # the best epoch of each fold of a cross-validation

    @property
    def best(self) -> Epoch:
        """The metrics of the best epoch; the mean over the folds of a cross-validation."""
        if self.folds:
            return {name: fmean(fold[name] for fold in self.folds) for name in self.folds[0]}
        return next(e for e in self.history if e["epoch"] == self.best_epoch)

    @property
    def standard_error(self) -> float:
        """The standard error of the score over the folds; NaN with fewer than two."""
        return stdev(self.scores) / math.sqrt(len(self.scores)) if self.folds[1:] else math.nan

    @property
    def measured(self) -> dict[str, float]:
        """The results that a requirement or a further objective can name."""
        metrics = {name: value for name, value in self.best.items() if name.startswith("val_")}
        return {
            **metrics,
            **self.errors,
            "parameter_count": float(self.parameter_count),  # as MLflow returns it
            "train_seconds": self.seconds,
        }

    @property
    def errors(self) -> dict[str, float]:
        """The standard error of the objective by its name, if it was estimated by draws."""
        if self.draws is None:
            return {}
        return {error_name(self.objective): standard_error(self.draws)}

    @property
    def score(self) -> float:
        """The objective, averaged over the executions or folds."""
        return float(np.mean(self.scores))
