"""Executor for an existing Dask cluster, whose workers may be on any machines."""

from __future__ import annotations

import queue
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.cluster.executor import RecoveredResult, WorkerLost
from imdbtune.cluster.local_executor import FinishedTask, call_stack, task_outcome
from imdbtune.cluster.remote_task import RemoteTask, run_remote_task
from imdbtune.cluster.trial_job import (
    Clock,
    EpochEnded,
    Report,
    TrialFailure,
    TrialJob,
    is_overdue,
    time_limit_message,
)
from imdbtune.cluster.worker_pool import GPU, WorkerInfo, WorkerPool
from imdbtune.errors import SearchAborted, escape_control
from imdbtune.tracking import artifact_transfer, reader
from imdbtune.tracking.connection import redact_secrets
from imdbtune.tracking.mlflow_names import OPEN
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import is_temporary
from imdbtune.training.spec import TrialResult

if TYPE_CHECKING:
    from distributed import Future

    from imdbtune.tracking.connection import MlflowClient

REFRESH_EVERY_S = 1.0  # of the list of workers
POLL_S = 0.1  # wait for a trial to end


@contextmanager
def open_remote_executor(
    pool: WorkerPool, mlflow: MlflowClient, **settings: Any
) -> Iterator[RemoteExecutor]:
    """Open an executor and close it at the end; ``settings`` are its other fields."""
    executor = RemoteExecutor(pool, mlflow, **settings)
    try:
        yield executor
    finally:
        executor.close()


@dataclass
class RemoteExecutor:
    """Runs one trial at a time on each worker of a cluster.

    A trial is bound to one worker process. If that dies, the driver decides what to do. The
    scheduler would run the trial again without the driver's knowledge.

    Args:
        mlflow: for the files that driver and workers exchange.
        outbox: of the search; a trial is sent once MLflow has its run.
        search: MLflow's id of the search's run.
        corpus: folder of the corpus on this machine.
        report: called with the metrics of each epoch.
        keep_model: whether workers upload all models, until the search has chosen which to log.
        clock: monotonic, in seconds; for the time limit of trials.
    """

    pool: WorkerPool
    mlflow: MlflowClient
    outbox: Outbox
    search: str
    corpus: Path
    report: Report
    keep_model: bool = False
    clock: Clock = time.monotonic
    _queued: deque[TrialJob] = field(default_factory=deque)
    # By the keys of their Dask tasks.
    _sent: dict[str, tuple[TrialJob, WorkerInfo, Any]] = field(default_factory=dict)
    _started_at: dict[str, float] = field(default_factory=dict)
    _timed_out: dict[str, TrialFailure] = field(default_factory=dict)
    _ended: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    _unresolved: list[tuple[TrialJob, Any]] = field(default_factory=list)  # lost: MLflow decides
    _corpus_uploaded: bool = False
    _states_uploaded: set[str] = field(default_factory=set)  # run ids
    _next_refresh: float = 0.0
    _reported_no_worker: bool = False
    _reported_no_store: bool = False

    def __post_init__(self) -> None:
        self._topic = f"imdbtune-{uuid.uuid4().hex}"
        self.pool.client.subscribe_topic(self._topic, self._on_event)

    @property
    def slots(self) -> int:
        """How many trials run at once; 1 without workers: a trial then waits for the first."""
        return max(1, len(self.pool.usable()))

    def submit(self, job: TrialJob) -> None:
        """Queue the trial; it is sent once MLflow has its run and a worker is free."""
        self._queued.append(job)

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Any]]:
        """Return the trials that have ended, with their outcomes.

        Args:
            timeout_s: how long to wait for one, in seconds.

        Raises:
            SearchAborted: the scheduler is lost, or no worker is left after an error.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._refresh()
            self._send_queued()
            ended = self._collect()
            if ended or time.monotonic() > deadline:
                return ended

    def close(self) -> None:
        """Cancel the running trials; their workers notice it after an epoch.

        The result of a trial that has finished meanwhile stays in MLflow for the next session.
        """
        jobs = [(job, None) for job, _, _ in self._sent.values()]
        futures = [future for _, _, future in self._sent.values()]
        with suppress(Exception):  # the scheduler may be lost
            self.pool.client.unsubscribe_topic(self._topic)
            self.pool.client.cancel(futures)
        with suppress(Exception):  # the store may be unreachable
            for job, outcome in [*jobs, *self._unresolved]:
                self._outcome_in_mlflow(job, outcome)

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """Handle an event from a worker; called by a thread of the client."""
        for kind, value in event[1].items():
            if kind == "started":
                self._started_at[value] = self.clock()
            elif kind == "trained":  # delivery, which may take long, does not count as trial time
                self._started_at.pop(value, None)
            elif kind == "notice":
                self.pool.notify(escape_control(value))
            elif kind == "epoch":  # Dask adds the worker's address
                self.report(EpochEnded(**value))

    def _refresh(self) -> None:
        """Update the workers, at most once a second; find lost workers and overdue trials."""
        if time.monotonic() < self._next_refresh:
            return
        self.pool.refresh()
        self._next_refresh = time.monotonic() + REFRESH_EVERY_S
        for key, (_, worker, _) in list(self._sent.items()):
            current = self.pool.workers.get(worker.address)
            if current is None or current.worker_id != worker.worker_id:
                self._ended.put((key, WorkerLost("the worker process died")))
        self._kill_overdue()
        if self.pool.workers:
            self._reported_no_worker = False
        elif self.pool.last_error:
            raise SearchAborted(f"no worker is left: {self.pool.last_error}")
        elif not self._reported_no_worker:
            self._reported_no_worker = True
            self.pool.notify(f"{self.pool.address} has no worker for trials now; waiting ...")

    def _kill_overdue(self) -> None:
        for key, started in list(self._started_at.items()):
            if key not in self._sent or key in self._timed_out:
                continue
            job, worker, _ = self._sent[key]
            if is_overdue(job, self.clock() - started):
                stack = call_stack(self.pool.client, key)
                self._timed_out[key] = TrialFailure(time_limit_message(job), stack, logged=False)
                self.pool.restart(worker)

    def _send_queued(self) -> None:
        """Send trials to free workers; while the store is unreachable they stay queued."""
        busy = {worker.address for _, worker, _ in self._sent.values()}
        free = [worker for worker in self.pool.usable() if worker.address not in busy]
        try:
            for worker in free:
                job = next((j for j in self._queued if self._mlflow_run_id(j.run_id)), None)
                if job is None:
                    return
                self._upload_inputs(job, worker)
                self._queued.remove(job)
                self._send(job, worker)
                self._reported_no_store = False
        except Exception as error:
            if not is_temporary(error):
                raise
            if not self._reported_no_store:
                self._reported_no_store = True
                reason = (str(error).splitlines() or [""])[0][:200]
                self.pool.notify(redact_secrets(f"trials wait for the tracking store ({reason})"))

    def _mlflow_run_id(self, key: str) -> str:
        """Return MLflow's run id for a key of the outbox; empty: MLflow does not have the run."""
        return self.outbox.delivered(key).run_id if key else ""

    def _upload_inputs(self, job: TrialJob, worker: WorkerInfo) -> None:
        """Upload the files that the trial needs and that its worker cannot get otherwise."""
        if worker.lacks_corpus and not self._corpus_uploaded:
            if not artifact_transfer.has_corpus(self.mlflow, self.search):
                artifact_transfer.send_corpus(self.mlflow, self.search, self.corpus)
            self._corpus_uploaded = True
        state, run_id = job.spec.state, self._mlflow_run_id(job.previous_run_id)
        # The state is on this machine if the trial that saved it was trained here.
        if state is not None and run_id and run_id not in self._states_uploaded and state.exists():
            artifact_transfer.upload_file(self.mlflow, run_id, state)
            self._states_uploaded.add(run_id)

    def _send(self, job: TrialJob, worker: WorkerInfo) -> None:
        task = RemoteTask(
            job=job,
            worker_id=worker.worker_id,
            run_id=self._mlflow_run_id(job.run_id),
            search=self.search,
            tracking_uri=self.pool.tracking_uri,
            previous_run_id=self._mlflow_run_id(job.previous_run_id),
            keep_model=self.keep_model,
            topic=self._topic,
        )
        future = self.pool.client.submit(
            run_remote_task,
            task,
            workers=[worker.address],
            resources={GPU: 1} if worker.gpu else {},
            pure=False,
            retries=0,
        )
        self._sent[future.key] = (job, worker, future)
        future.add_done_callback(self._on_done)

    def _on_done(self, future: Future) -> None:
        """Queue the outcome of a task; called by a thread of the client."""
        self._ended.put((future.key, task_outcome(future)))

    def _collect(self) -> list[tuple[TrialJob, Any]]:
        """Wait a moment for a trial to end; return it with its outcome."""
        try:
            key, outcome = self._ended.get(timeout=POLL_S)
        except queue.Empty:
            return self._resolve_lost()
        if key not in self._sent:  # collected already
            return []
        if isinstance(outcome, WorkerLost):
            self.pool.refresh()  # raises if the scheduler is lost
        job, worker, future = self._sent.pop(key)
        self._started_at.pop(key, None)
        self.pool.client.cancel([future])
        if isinstance(outcome, FinishedTask):
            if outcome.spent and worker.nanny:
                self.pool.restart(worker)
            outcome = outcome.outcome
        if isinstance(outcome, SearchAborted):  # its disk is full, or it cannot reach the store
            self.pool.last_error = f"{worker.address}: {outcome}"
            self.pool.refuse(worker.address, f"cannot continue ({outcome})")
            outcome = WorkerLost(str(outcome))
        elif isinstance(outcome, WorkerLost):
            self.pool.drop(worker.address)
        if isinstance(outcome, WorkerLost):
            self._unresolved.append((job, self._timed_out.pop(key, outcome)))
            return self._resolve_lost()
        if isinstance(outcome, TrialResult) or outcome.logged:
            status = "FINISHED" if isinstance(outcome, TrialResult) else "FAILED"
            self.outbox.set_terminated(job.run_id, status, True)
        return [(job, outcome)]

    def _resolve_lost(self) -> list[tuple[TrialJob, Any]]:
        """Return the outcomes of trials whose worker was lost, as far as MLflow can be read."""
        resolved = []
        for job, outcome in list(self._unresolved):
            try:
                final = self._outcome_in_mlflow(job, outcome)
            except Exception as error:
                if not is_temporary(error):
                    raise
                continue
            self._unresolved.remove((job, outcome))
            resolved.append((job, final))
        return resolved

    def _outcome_in_mlflow(self, job: TrialJob, outcome: Any) -> Any:
        """Return how a trial ended according to MLflow; close its run if it is open.

        Args:
            outcome: returned where MLflow knows of no end.
        """
        run_id = self._mlflow_run_id(job.run_id)
        trial = reader.read_run(self.mlflow, run_id)
        if trial.status in OPEN:
            # Not by way of the outbox: a worker that is only disconnected may end the run later.
            status = "FAILED" if isinstance(outcome, TrialFailure) else "KILLED"
            self.mlflow.set_terminated(run_id, status)
            return outcome
        if trial.status == "FINISHED" and trial.score is not None:
            self.outbox.set_terminated(job.run_id, "FINISHED")
            return RecoveredResult(trial.score)
        if trial.status == "FAILED":
            self.outbox.set_terminated(job.run_id, "FAILED")
            return TrialFailure(trial.reason, "", logged=True)
        return outcome
