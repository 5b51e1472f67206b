"""What runs trials: the interface of all executors, and the one that trains in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from imdbtune.cluster.trial_job import Clock, Report, TrialFailure, TrialJob, run_trial
from imdbtune.training.spec import TrialResult

WAIT_S = 1.0  # for a trial to end, between checks of the time limits
# Attempts at a trial whose worker dies, all with the same seed.
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class WorkerLost:
    """The outcome of a trial whose worker process has died."""

    reason: str


@dataclass(frozen=True)
class RecoveredResult:
    """The result of a trial whose worker was lost after MLflow had received everything."""

    # As in TrialResult.
    score: float
    pruned_after: int
    measured: Mapping[str, float]


Outcome = TrialResult | RecoveredResult | TrialFailure | WorkerLost


class Executor(Protocol):
    """Runs trials; several at once if ``slots`` is above 1."""

    @property
    def slots(self) -> int:
        """The number of trials that can run at once."""

    def submit(self, job: TrialJob) -> None:
        """Start a trial, or queue it."""

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Outcome]]:
        """Return the trials that have ended, with their outcomes; wait ``timeout_s`` for one."""


@dataclass
class InProcessExecutor:
    """Run one trial at a time in this process: for debugging, and for the command ``train``."""

    report: Report
    slots: int = 1
    clock: Clock = time.monotonic
    _waiting: list[TrialJob] = field(default_factory=list)

    def submit(self, job: TrialJob) -> None:
        """Queue the trial; it runs when :meth:`done` is called."""
        self._waiting.append(job)

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Outcome]]:
        """Run the queued trials and return their outcomes."""
        jobs, self._waiting = self._waiting, []
        return [(job, run_trial(job, self.report, self.clock)) for job in jobs]
