"""What runs around a trial in a Dask worker, on this machine or another one."""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypedDict

from imdbtune.cluster.executor import WorkerLost
from imdbtune.cluster.prune_decision import await_decision
from imdbtune.cluster.trial_job import (
    EpochEnded,
    Report,
    TrialFailure,
    TrialJob,
    failure_of,
    run_trial,
    warm_up,
)

if TYPE_CHECKING:
    from distributed import Worker

    from imdbtune.training.spec import TrialResult

TOPIC = "imdbtune"  # of events, in a cluster that one executor has for itself
# TensorFlow keeps compiled code in memory: a worker that has grown to this many bytes is renewed.
RENEW_ABOVE = 3 * 2**30


class Epoch(TypedDict):
    """The fields of :class:`imdbtune.cluster.trial_job.EpochEnded`."""

    trial_id: str
    execution: int
    metrics: Mapping[str, float]
    continues: bool


class Event(TypedDict, total=False):
    """An event that a worker sends to the driver, which has one of these entries.

    Args:
        started: key of the task whose trial begins now, in the process ``pid``.
        trained: key of the task whose trial has ended; its results are still being delivered.
        epoch: a trial has ended an epoch.
        task: key of the task that waits for the decision about ``epoch``.
        notice: a line for the user.
    """

    started: str
    pid: int
    trained: str
    epoch: Epoch
    task: str
    notice: str


def reporter(job: TrialJob, task: str, send: Callable[[Event], None]) -> Report:
    """Return what reports the epochs of a trial to the driver, and returns its decisions.

    Args:
        job: the trial.
        task: key of the task that runs it.
        send: sends an event to the driver; Dask sends plain dictionaries.
    """

    def report(epoch: EpochEnded) -> bool:
        metrics = dict(epoch.metrics)
        event: Event = {
            "epoch": {
                "trial_id": epoch.trial_id,
                "execution": epoch.execution,
                "metrics": metrics,
                "continues": epoch.continues,
            }
        }
        is_judged = epoch.execution == 0 or job.spec.settings.folds
        if not (job.prunable and is_judged):
            send(event)
            return False
        send({**event, "task": task})
        return await_decision(task, int(metrics["epoch"]))

    return report


@dataclass(frozen=True)
class FinishedTask:
    """What a worker reports of a trial.

    Args:
        outcome: ``None`` where the worker was about to be renewed and did not start the trial.
        worker: its address.
        spent: whether its process has to be renewed.
    """

    outcome: TrialResult | TrialFailure | WorkerLost | None
    worker: str
    spent: bool


class TaskEnded(Exception):
    """The outcome of a trial, raised in its worker.

    Dask leaves a returned value with the worker's process and runs the task again if that dies.
    It keeps an exception in the scheduler, so a finished trial is not run again.
    """

    def __init__(self, ran: FinishedTask) -> None:
        super().__init__(ran)
        self.ran = ran

    def __repr__(self) -> str:
        """Return a short text: Dask logs it, and cuts a long one."""
        return "Ended()"

    __str__ = __repr__


class Cancelled(BaseException):
    """The driver has died or has cancelled the trial."""


_spent = False  # whether this worker process has to be renewed


def run_local_task(job: TrialJob) -> None:
    """Run a trial in this worker process, which has the driver's files.

    Raises:
        TaskEnded: the trial has ended, or was rejected; the exception says which.
        SearchAborted: the disk cannot be written to.
    """
    from distributed import get_worker

    worker = get_worker()
    if _spent:
        end_task(worker, None, _spent)

    def train() -> TrialResult | TrialFailure:
        warm_up(job)
        if job.timeout_minutes:
            started: Event = {"started": worker.get_current_task(), "pid": os.getpid()}
            worker.log_event(TOPIC, started)
        send = partial(worker.log_event, TOPIC)
        return run_trial(job, reporter(job, worker.get_current_task(), send))

    run_task(worker, train)


def run_task(worker: Worker, train: Callable[[], TrialResult | TrialFailure]) -> NoReturn:
    """Run a trial, and raise its outcome as :class:`TaskEnded`; other exceptions pass through."""
    global _spent
    outcome: TrialResult | TrialFailure | WorkerLost
    try:
        outcome = train()
    except MemoryError as error:
        outcome = failure_of(error, traceback.format_exc(), logged=False)
    except Cancelled:
        outcome = WorkerLost("the trial was cancelled")
    _spent = must_be_renewed(outcome)
    end_task(worker, outcome, _spent)


def end_task(
    worker: Worker, outcome: TrialResult | TrialFailure | WorkerLost | None, spent: bool
) -> NoReturn:
    """Raise the outcome of a trial, without Dask logging it as an error."""
    logger = logging.getLogger("distributed.worker")
    if _is_not_outcome not in logger.filters:
        logger.addFilter(_is_not_outcome)
    raise TaskEnded(FinishedTask(outcome, worker.address, spent))


def _is_not_outcome(record: logging.LogRecord) -> bool:
    return "Ended()" not in map(str, record.args or ())


def must_be_renewed(outcome: TrialResult | TrialFailure | WorkerLost) -> bool:
    """Return whether memory ran out, which leaves objects half made, or the process has grown."""
    import psutil

    if isinstance(outcome, TrialFailure) and outcome.out_of_memory:
        return True
    return bool(psutil.Process().memory_info().rss > RENEW_ABOVE)


def kill_this_process() -> None:
    """Kill this worker process; its nanny, if it has one, starts another one."""
    os.kill(os.getpid(), signal.SIGKILL)
