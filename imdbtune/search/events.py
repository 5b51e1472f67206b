"""What a task reports while it runs: one frozen dataclass for each kind of event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.trial_job import EpochEnded
from imdbtune.config.hyperparameters import TrialParams

if TYPE_CHECKING:
    from imdbtune.data.corpus import Corpus
    from imdbtune.search.plan import Plan
    from imdbtune.tracking.entities import Search


@dataclass(frozen=True)
class Notice:
    """A message for the user."""

    text: str


@dataclass(frozen=True)
class DownloadProgress:
    """A download, or the reading of a large file, has advanced."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class SearchOpened:
    """A search has its run in MLflow, and its trials begin."""

    search: Search
    plan: Plan
    corpus: Corpus
    folder: Path  # of its files


@dataclass(frozen=True)
class SearchResumed:
    """The state of a resumed search."""

    ended: int  # trials
    again: int  # trials that are run again
    best: float | None  # score


@dataclass(frozen=True)
class TrainingOpened:
    """A single training has its run in MLflow, and begins."""

    run_id: str
    params: TrialParams
    epochs: int
    corpus: Corpus
    objective: str


@dataclass(frozen=True)
class ConfirmationOpened:
    """A confirmation has its run in MLflow, and its trainings begin."""

    search: Search
    run_id: str
    corpus: Corpus
    folder: Path  # of its files
    trainings: int
    workers: int


@dataclass(frozen=True)
class TrialStarted:
    """A trial has been sent to a worker."""

    trial_id: str
    params: TrialParams
    epochs: int


@dataclass(frozen=True)
class TrialRetried:
    """An attempt at a trial has failed or lost its worker, and the trial is run again."""

    trial_id: str
    params: TrialParams
    run_id: str
    reason: str


@dataclass(frozen=True)
class TrialEnded:
    """A trial has a score, maybe because it was pruned, or has failed for good."""

    trial_id: str
    params: TrialParams
    run_id: str
    score: float | None  # None: it failed
    reason: str  # why it has failed or was pruned; else empty


@dataclass(frozen=True)
class SpaceExhausted:
    """The search space has no new configuration after this number of trials."""

    trials: int


@dataclass(frozen=True)
class LimitReached:
    """No further trial starts."""

    reason: str


@dataclass(frozen=True)
class BaselineEnded:
    """A baseline has been logged.

    Args:
        score: of the validation reviews, by the metric.
        metric: that of the objective, if the baseline is measured by it.
    """

    name: str
    score: float
    seconds: float
    metric: str = "accuracy"


@dataclass(frozen=True)
class WaitingForBaseline:
    """All trials have ended before a baseline."""

    name: str


@dataclass(frozen=True)
class StoreAway:
    """The tracking store has taken nothing for minutes; the results are kept on this machine."""

    text: str


Event = (
    Notice
    | DownloadProgress
    | SearchOpened
    | SearchResumed
    | TrainingOpened
    | ConfirmationOpened
    | TrialStarted
    | EpochEnded
    | TrialRetried
    | TrialEnded
    | SpaceExhausted
    | LimitReached
    | BaselineEnded
    | WaitingForBaseline
    | StoreAway
)
Listener = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Ignore an event: the listener of those who give none."""
