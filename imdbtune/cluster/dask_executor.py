"""Run trials as tasks of a Dask cluster, of this machine or of others.

:class:`DaskExecutor` keeps the books: which trials are sent, which are overdue, what became of
them. :class:`Workers` is what differs between the clusters.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from imdbtune.cluster.dask_adapter import call_stack, is_lost
from imdbtune.cluster.executor import Outcome, WorkerLost
from imdbtune.cluster.prune_decision import send_decision
from imdbtune.cluster.trial_job import (
    Clock,
    EpochEnded,
    Report,
    TrialFailure,
    TrialJob,
    failure_of,
    is_overdue,
    time_limit_message,
)
from imdbtune.cluster.worker_task import Event, FinishedTask, TaskEnded
from imdbtune.errors import SearchAborted, escape_control

if TYPE_CHECKING:
    from distributed import Client, Future

    from imdbtune.cluster.worker_pool import WorkerInfo
    from imdbtune.tracking.connection import Notify

REFRESH_EVERY_S = 1.0  # of the list of workers
POLL_S = 0.1  # between two attempts to send a trial, or to read from MLflow what became of one


@dataclass(frozen=True)
class Task:
    """A trial that can be sent.

    Args:
        run: function that runs in the worker, with ``argument``.
        worker: that is to run it; ``None``: the scheduler chooses one.
        options: of ``Client.submit``.
    """

    job: TrialJob
    run: Callable[..., None]
    argument: object
    worker: WorkerInfo | None = None
    options: Mapping[str, object] = field(default_factory=dict)


class Workers(Protocol):
    """The worker processes of an executor.

    The methods that have a body here need no other one on this machine: Dask replaces workers that
    die, and all write to the driver's outbox and to the same disk.

    Args:
        topic: Dask's topic of the events that they send.
    """

    topic: str

    @property
    def slots(self) -> int:
        """The number of trials that can run at once."""

    def refresh(self) -> None:
        """Update the list of workers; called about once a second.

        Raises:
            SearchAborted: the scheduler is lost, or no worker is left after an error.
        """
        return

    def is_gone(self, task: Task) -> bool:
        """Return whether the process that has to run a task is gone, but not its task."""
        return False

    def next_task(self, queued: Sequence[TrialJob], busy: Set[str]) -> Task | None:
        """Return the next trial to send; ``None``: all have to wait.

        Args:
            queued: at least one trial, in their order.
            busy: addresses of the workers that run trials.
        """

    def kill(self, task: Task, pid: int) -> None:
        """End the process ``pid`` of an overdue trial."""

    def renew(self, task: Task, address: str) -> None:
        """Replace the process of a worker that is spent."""

    def worker_lost(self, task: Task) -> None:
        """Note that the process of a task has died.

        Raises:
            SearchAborted: the scheduler is lost too.
        """

    def worker_failed(self, task: Task, error: SearchAborted) -> WorkerLost:
        """Send no more trials to a worker whose disk is full or that cannot reach the store.

        Raises:
            SearchAborted: the other workers could not continue either.
        """
        raise error

    def finished(self, job: TrialJob, outcome: Outcome) -> None:
        """Note that a trial has ended in its worker."""
        return

    def recover(self, job: TrialJob, outcome: Outcome) -> Outcome | None:
        """Return the outcome of a trial whose worker was lost; ``None``: it is not known yet.

        Args:
            outcome: that of a trial that has not ended.
        """
        return outcome


@dataclass
class _SentTrial:
    """A trial that a worker runs, or will run.

    Args:
        timed_out: its outcome, once its process was ended because of the time limit.
    """

    task: Task
    future: Future
    timed_out: TrialFailure | None = None


@dataclass(frozen=True)
class _Started:
    """The process that runs a trial, and since when."""

    pid: int
    at: float  # by the executor's clock


Ended = FinishedTask | TrialFailure | WorkerLost | SearchAborted


@dataclass
class DaskExecutor:
    """Run trials as tasks of a Dask cluster.

    A trial is sent once: if its worker dies, the driver decides what to do. The scheduler would run
    the trial again without the driver's knowledge.

    Args:
        report: called with the metrics of each epoch, in :meth:`done`; may prune the trial.
        notify: called with lines of workers for the user.
        clock: for the time limit of trials.
    """

    client: Client
    workers: Workers
    report: Report
    notify: Notify = lambda line: None
    clock: Clock = time.monotonic
    _queued: deque[TrialJob] = field(default_factory=deque)
    # By the keys of their Dask tasks.
    _sent: dict[str, _SentTrial] = field(default_factory=dict)
    _started: dict[str, _Started] = field(default_factory=dict)
    _ended: queue.SimpleQueue[tuple[str, Ended | EpochEnded]] = field(
        default_factory=queue.SimpleQueue
    )
    _lost: list[tuple[TrialJob, Outcome]] = field(default_factory=list)
    _next_refresh: float = 0.0

    def __post_init__(self) -> None:
        self.client.subscribe_topic(self.workers.topic, self._on_event)

    @property
    def slots(self) -> int:
        """The number of trials that can run at once."""
        return self.workers.slots

    def submit(self, job: TrialJob) -> None:
        """Send the trial to a worker, now or when one is free."""
        self._queued.append(job)
        self._send_queued()

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Outcome]]:
        """Return the trials that have ended, with their outcomes; a lost worker is one of them.

        Args:
            timeout_s: how long to wait for one.

        Raises:
            SearchAborted: no trial can go on.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._refresh()
            self._kill_overdue()
            self._send_queued()
            until = min(deadline, self._next_refresh)
            if self._queued or self._lost:
                until = min(until, time.monotonic() + POLL_S)
            ended = self._collect_one(max(0.0, until - time.monotonic()))
            if ended or time.monotonic() >= deadline:
                return ended

    def close(self) -> None:
        """Cancel the running trials; their workers notice it after an epoch.

        The result of a trial that has finished meanwhile stays in MLflow for the next session.
        """
        closed = WorkerLost("the executor was closed")
        running = [(sent.task.job, closed) for sent in self._sent.values()]
        with suppress(Exception):  # the scheduler may be lost
            self.client.unsubscribe_topic(self.workers.topic)
            self.client.cancel([sent.future for sent in self._sent.values()])
        with suppress(Exception):  # the search ends with the first error
            for job, outcome in [*running, *self._lost]:
                if self.workers.recover(job, outcome) is None:
                    break  # the store is unreachable

    def _on_event(self, event: tuple[float, Event]) -> None:
        """Handle an event from a worker. A thread of the client calls this."""
        facts = event[1]
        if "started" in facts:
            self._started[facts["started"]] = _Started(facts.get("pid", 0), self.clock())
        elif "trained" in facts:  # delivery, which may take long, does not count as trial time
            self._started.pop(facts["trained"], None)
        elif "notice" in facts:
            self.notify(escape_control(facts["notice"]))
        elif "epoch" in facts:
            self._ended.put((facts.get("task", ""), EpochEnded(**facts["epoch"])))

    def _refresh(self) -> None:
        """Update the workers, at most once a second; find those that are lost."""
        if time.monotonic() < self._next_refresh:
            return
        self.workers.refresh()
        self._next_refresh = time.monotonic() + REFRESH_EVERY_S
        for key, sent in self._sent.items():
            if self.workers.is_gone(sent.task):
                self._ended.put((key, WorkerLost("the worker process died")))

    def _kill_overdue(self) -> None:
        for key, started in list(self._started.items()):
            sent = self._sent.get(key)
            if sent is None or sent.timed_out:
                continue
            job = sent.task.job
            if is_overdue(job, self.clock() - started.at):
                stack = call_stack(self.client, key)
                sent.timed_out = TrialFailure(time_limit_message(job), stack, logged=False)
                if key in self._started:  # it has not ended meanwhile
                    self.workers.kill(sent.task, started.pid)

    def _send_queued(self) -> None:
        while self._queued:
            sent = self._sent.values()
            busy = {trial.task.worker.address for trial in sent if trial.task.worker}
            task = self.workers.next_task(self._queued, busy)
            if task is None:
                return
            self._queued.remove(task.job)
            future = self.client.submit(
                task.run, task.argument, **task.options, pure=False, retries=0
            )
            self._sent[future.key] = _SentTrial(task, future)
            future.add_done_callback(self._collect)

    def _collect(self, future: Future) -> None:
        """Queue the outcome of a finished task. A thread of the client calls this."""
        self._started.pop(future.key, None)
        self._ended.put((future.key, task_outcome(future)))

    def _collect_one(self, timeout_s: float) -> list[tuple[TrialJob, Outcome]]:
        """Wait for a trial to end; return it with its outcome. An epoch is reported."""
        try:
            key, ended = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return self._recover_lost()
        if isinstance(ended, EpochEnded):
            prune = self.report(ended)
            if key:  # of the task that waits for the decision
                send_decision(self.client, key, int(ended.metrics["epoch"]), bool(prune))
            return []
        if key not in self._sent:  # collected already
            return []
        sent = self._sent[key]
        task, job = sent.task, sent.task.job
        outcome = ended.outcome if isinstance(ended, FinishedTask) else ended
        if isinstance(outcome, SearchAborted):
            outcome = self.workers.worker_failed(task, outcome)
        elif isinstance(outcome, WorkerLost) or sent.timed_out:
            self.workers.worker_lost(task)
        del self._sent[key]
        self._started.pop(key, None)
        self.client.cancel([sent.future])
        if outcome is None:
            self.submit(job)
            return []
        if isinstance(ended, FinishedTask) and ended.spent:
            self.workers.renew(task, ended.worker)
        if isinstance(outcome, WorkerLost):
            self._lost.append((job, sent.timed_out or outcome))
            return self._recover_lost()
        self.workers.finished(job, outcome)
        return [(job, outcome)]

    def _recover_lost(self) -> list[tuple[TrialJob, Outcome]]:
        """Return the outcomes of trials whose worker was lost, as far as they are known."""
        recovered = []
        for job, outcome in list(self._lost):
            final = self.workers.recover(job, outcome)
            if final is not None:
                self._lost.remove((job, outcome))
                recovered.append((job, final))
        return recovered


def task_outcome(future: Future) -> Ended:
    """Return the outcome of a task whose future is done."""
    error = future.exception()
    if isinstance(error, TaskEnded):
        return error.ran
    if isinstance(error, SearchAborted):
        return error
    if error is None:  # cancelled, as all are when the scheduler is lost: no task returns a value
        return WorkerLost("the connection to the worker was lost")
    if is_lost(error):
        return WorkerLost("the worker process died")
    lines = traceback.format_exception(type(error), error, future.traceback())
    return failure_of(error, "".join(lines), logged=False)
