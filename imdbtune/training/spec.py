"""What goes into a trial and what comes out of it: small, frozen, and they pickle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imdbtune.config.hyperparameters import TrialParams

Epoch = dict[str, float]
OnEpoch = Callable[[int, Epoch], None]


@dataclass(frozen=True)
class TrialSpec:
    """Everything that decides the outcome of one trial; small, and it pickles."""

    params: TrialParams
    corpus: Path
    folder: Path
    reviews: int = 0
    epochs: int = 4
    initial_epoch: int = 0
    patience: int = 0
    objective: str = "val_accuracy"
    seed: int = 0
    executions: int = 1
    batching: str = "buckets"
    compile: str = "auto"
    state: Path | None = None
    keep_state: bool = False
    hold_out: bool = True  # a fifth of the reviews, for validation; else all are trained on
    schedule_epochs: int = 0  # over which the learning rate goes down; 0: epochs

    @property
    def larger_is_better(self) -> bool:
        """Direction of the objective."""
        return self.objective == "val_accuracy"

    @property
    def measure(self) -> str:
        """What the score is: the objective, or without validation the same of what is trained."""
        return self.objective if self.hold_out else self.objective.removeprefix("val_")


@dataclass(frozen=True)
class StepTimes:
    """What the first steps of a training took."""

    start_s: float  # until the end of the first step: making the model, tracing, compiling
    seconds: float  # of the steps after it
    positions: int  # rows x time steps that those went through


@dataclass(frozen=True)
class TrialResult:
    """What came out of a trial.

    ``history`` holds one dict an epoch: ``epoch`` (from 1), ``accuracy``, ``loss``,
    ``val_accuracy``, ``val_loss`` (all of them means over reviews; the last two only where reviews
    were held out), ``seconds``. With several
    executions it is the history of the one with the best objective, whose model is kept;
    ``scores`` has the best objective of each.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    scores: tuple[float, ...]
    seconds: float
    parameter_count: int
    model: Path
    state: Path | None = None
    compiled: bool = False

    @property
    def best(self) -> Epoch:
        """The metrics of the best epoch."""
        return next(e for e in self.history if e["epoch"] == self.best_epoch)

    @property
    def score(self) -> float:
        """The trial's objective: the mean over its executions."""
        return float(np.mean(self.scores))
