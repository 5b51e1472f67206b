"""Run one trial in the process that trains it, and write its results to the outbox.

Failures are returned as values with their traceback, so that all executors report them alike.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.errors import DiskFull, TrialFailed
from imdbtune.files import is_disk_full
from imdbtune.training.failure_text import cause_of, is_out_of_memory

if TYPE_CHECKING:
    from imdbtune.tracking.logged_models import OwnInput
    from imdbtune.tracking.outbox import Outbox
    from imdbtune.tracking.writer import CorpusFacts, TrialRun
    from imdbtune.training.saved_state import Checkpoint
    from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec

Trainer = Callable[["TrialSpec", "OnEpoch"], "TrialResult"]


@dataclass(frozen=True)
class EpochEnded:
    """An epoch of a trial has ended.

    Args:
        trial_id: empty for a single training.
        execution: from 0.
        metrics: as in :class:`imdbtune.training.spec.TrialResult`.
        continues: whether an earlier attempt at the trial ended this epoch, and this attempt
            continues after it.
    """

    trial_id: str
    execution: int
    metrics: Mapping[str, float]
    continues: bool = False


Report = Callable[[EpochEnded], bool | None]  # true: prune the trial
Clock = Callable[[], float]  # monotonic, in seconds


@dataclass(frozen=True)
class TrialJob:
    """A trial to run: what to train, and where its results are logged.

    Args:
        trial_id: the trial's number within its search, as text.
        outbox: receives everything that is logged.
        run_id: key of the trial's run in ``outbox``.
        corpus: logged as the run's dataset.
        log_model: whether the model is logged as soon as the trial has finished.
        trainer: trains the trial; default: :func:`imdbtune.training.trainer.train_trial`.
        timeout_minutes: time limit of the trial; 0: none.
        prunable: whether the driver decides after each epoch if the trial goes on.
        system_metrics: whether the use of the machine is logged, whatever MLflow's variable says.
        previous_run_id: run of the trial whose saved state this one continues; empty: none.
        earlier_run_ids: runs of attempts at this trial that may have left a checkpoint.
    """

    trial_id: str
    spec: TrialSpec
    outbox: Outbox
    run_id: str
    corpus: CorpusFacts | None = None
    log_model: bool = True
    trainer: Trainer | None = None
    timeout_minutes: float = 0.0
    prunable: bool = False
    system_metrics: bool = False
    previous_run_id: str = ""
    earlier_run_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialFailure:
    """Why a trial did not finish.

    Args:
        reason: one line.
        logged: whether the trial's run is FAILED already, with the reason.
        out_of_memory: whether the process that trained the trial ran out of memory.
    """

    reason: str
    traceback: str
    logged: bool = True
    out_of_memory: bool = False

    def __post_init__(self) -> None:
        """Redact secrets: errors of a tracking store may contain its password."""
        from imdbtune.tracking.connection import redact_secrets

        for name in ("reason", "traceback"):
            object.__setattr__(self, name, redact_secrets(getattr(self, name)))


def run_trial(
    job: TrialJob, report: Report, clock: Clock = time.monotonic
) -> TrialResult | TrialFailure:
    """Train and log one trial; its run has ended when this returns.

    The time limit is checked after each epoch. A trial that hangs within an epoch can only be
    ended by killing its process.

    Args:
        report: called after each epoch; a true answer prunes the trial, which has a result then.

    Raises:
        DiskFull: the disk of this machine is full, which is not the trial's fault.
    """
    from imdbtune.tracking import mlflow_names
    from imdbtune.tracking.system_metrics import log_system_metrics
    from imdbtune.tracking.writer import TrialRun
    from imdbtune.training.saved_state import find_checkpoint

    started = clock()
    run = TrialRun(job.outbox, job.run_id)
    kept: Checkpoint | None = None

    def on_epoch(execution: int, epoch: dict[str, float]) -> bool:
        run.log_epoch(execution, epoch)
        continues = kept is not None and kept.ends_with(execution, epoch)
        prune = report(EpochEnded(job.trial_id, execution, epoch, continues))
        if is_overdue(job, clock() - started):
            raise TrialFailed(time_limit_message(job))
        return bool(prune)

    try:
        if job.corpus is not None:
            run.log_corpus(job.corpus)
        if kept := find_checkpoint(job.spec):
            run.log(tags={mlflow_names.CONTINUED: str(kept.epoch)})
        with log_system_metrics(run, job.system_metrics):
            result = (job.trainer or default_trainer())(job.spec, on_epoch)
        if not math.isfinite(result.score):
            raise TrialFailed(f"{job.spec.settings.objective} came out as {result.score}.")
        _end_with_result(run, job, result)
    except Exception as error:
        failure = failure_of(error, traceback.format_exc())
        if is_disk_full(error):
            raise DiskFull(f"no room is left on the disk ({failure.reason})") from error
        run.fail(failure.reason, failure.traceback)
        return failure
    return result


def _end_with_result(run: TrialRun, job: TrialJob, result: TrialResult) -> None:
    run.log_result(result, job.spec)
    if job.log_model:
        run.log_model(result.model, own_input(job.spec))
    if result.pruned_after:
        run.prune(result.pruned_after)
    else:
        run.end("FINISHED")


def own_input(spec: TrialSpec) -> OwnInput | None:
    """Return what the user's own model of a trial needs to be opened, if it is one."""
    from imdbtune.tracking.logged_models import OwnInput

    params = spec.params
    return OwnInput(spec.source, params.maxlen, params.vocabulary) if spec.source else None


def default_trainer() -> Trainer:
    """Return the trainer of jobs that name none; importing it takes seconds."""
    from imdbtune.training.trainer import train_trial

    return train_trial


def warm_up(job: TrialJob) -> None:
    """Import what a trial needs, so that these seconds do not count as the trial's own."""
    from imdbtune.tracking import writer

    writer.warm_up()
    if job.trainer is None:
        default_trainer()


def is_overdue(job: TrialJob, seconds: float) -> bool:
    """Return whether a trial that has run for ``seconds`` has exceeded its time limit."""
    return 0 < job.timeout_minutes * 60 < seconds


def time_limit_message(job: TrialJob) -> str:
    """Return the reason of failure of an overdue trial."""
    plural = "" if job.timeout_minutes == 1 else "s"
    return f"took longer than {job.timeout_minutes:g} minute{plural}"


def failure_of(error: BaseException, trace: str, logged: bool = True) -> TrialFailure:
    """Return the failure that an exception means for a trial, with a reason of one line."""
    message = cause_of(error)
    out_of_memory = is_out_of_memory(error)
    kind = "out of memory" if out_of_memory else type(error).__name__
    if isinstance(error, TrialFailed) and message:
        reason = message
    else:
        reason = f"{kind}: {message}" if message else kind
    return TrialFailure(reason, trace, logged, out_of_memory)


def trial_folder(search_folder: Path, trial_id: str) -> Path:
    """Return the folder for a trial's files, from which they are logged to MLflow."""
    return search_folder / "trials" / trial_id
