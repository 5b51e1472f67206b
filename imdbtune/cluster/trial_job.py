"""What a worker process does with one trial: train it and write it to the outbox.

Failures come back as values, with their traceback, so that every executor tells them alike.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.errors import DiskFull, TrialFailed
from imdbtune.files import is_disk_full

if TYPE_CHECKING:
    from imdbtune.tracking.outbox import Outbox
    from imdbtune.tracking.writer import CorpusFacts
    from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec

Trainer = Callable[["TrialSpec", "OnEpoch"], "TrialResult"]
Report = Callable[[dict[str, Any]], None]
Clock = Callable[[], float]  # seconds that only go forward


@dataclass(frozen=True)
class TrialJob:
    """A trial on its way to a worker: what to train, and which run of an outbox is its own."""

    trial_id: str
    spec: TrialSpec
    outbox: Outbox
    run_id: str
    corpus: CorpusFacts | None = None
    log_model: bool = True
    trainer: Trainer | None = None
    timeout_minutes: float = 0.0  # 0: none
    before: str = ""  # the run of the trial whose state it goes on from


@dataclass(frozen=True)
class TrialFailure:
    """Why a trial did not finish, whether its run says so already, and if memory ran out."""

    reason: str
    traceback: str
    logged: bool = True
    out_of_memory: bool = False

    def __post_init__(self) -> None:
        """Errors of a tracking store may hold its password."""
        from imdbtune.tracking.connection import redact_secrets

        for name in ("reason", "traceback"):
            object.__setattr__(self, name, redact_secrets(getattr(self, name)))


def run_trial(
    job: TrialJob, report: Report, clock: Clock = time.monotonic
) -> TrialResult | TrialFailure:
    """Train and log one trial; its run is FINISHED or FAILED when this returns.

    A trial that takes too long is ended after an epoch; one that hangs within an epoch can only
    be ended from outside, with its process.

    Raises:
        DiskFull: nothing can be written here any more, which is no fault of the trial.
    """
    from imdbtune.tracking.writer import TrialRun

    began = clock()
    run = TrialRun(job.outbox, job.run_id)

    def on_epoch(execution: int, epoch: dict[str, float]) -> None:
        run.log_epoch(execution, epoch)
        report({"trial_id": job.trial_id, "execution": execution, **epoch})
        if is_overdue(job, clock() - began):
            raise TrialFailed(time_limit_message(job))

    try:
        if job.corpus is not None:
            run.log_corpus(job.corpus)
        result = (job.trainer or default_trainer())(job.spec, on_epoch)
        if not math.isfinite(result.score):
            raise TrialFailed(f"{job.spec.objective} came out as {result.score}.")
        run.log_result(result, job.spec)
        if job.log_model:
            run.log_model(result.model)
        run.end("FINISHED")
    except Exception as error:
        failure = failure_of(error, traceback.format_exc())
        if is_disk_full(error):
            raise DiskFull(f"no room is left on the disk ({failure.reason})") from error
        run.fail(failure.reason, failure.traceback)
        return failure
    return result


def default_trainer() -> Trainer:
    """What trains, unless a job says otherwise; importing it takes seconds."""
    from imdbtune.training.trainer import train_trial

    return train_trial


def warm_up(job: TrialJob) -> None:
    """Import what a trial needs: seconds in a new process, which are not the trial's own."""
    from imdbtune.tracking import writer

    writer.warm_up()
    if job.trainer is None:
        default_trainer()


def is_overdue(job: TrialJob, seconds: float) -> bool:
    """Whether a trial that has taken so long has had all its time."""
    return 0 < job.timeout_minutes * 60 < seconds


def time_limit_message(job: TrialJob) -> str:
    """The reason why an overdue trial has failed."""
    plural = "" if job.timeout_minutes == 1 else "s"
    return f"took longer than {job.timeout_minutes:g} minute{plural}"


def failure_of(error: BaseException, trace: str, logged: bool = True) -> TrialFailure:
    """What an exception means for a trial: its reason in one line."""
    told = (str(error).strip().splitlines() or [""])[0]
    # TensorFlow's own name for it; importing TensorFlow for the class would take seconds.
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == (
        "ResourceExhaustedError"
    )
    named = isinstance(error, TrialFailed) and told
    kind = "out of memory" if out_of_memory else type(error).__name__
    reason = told if named else f"{kind}: {told}" if told else kind
    return TrialFailure(reason, trace, logged, out_of_memory)


def trial_folder(search_folder: Path, trial_id: str) -> Path:
    """Where a trial's files are made before MLflow has them."""
    return search_folder / "trials" / trial_id
