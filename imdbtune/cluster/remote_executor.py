"""Open the executor of an existing Dask cluster, whose workers may be on any machines."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.dask_executor import DaskExecutor, Task, Workers
from imdbtune.cluster.executor import Outcome, RecoveredResult, WorkerLost
from imdbtune.cluster.remote_task import RemoteTask, run_remote_task
from imdbtune.cluster.trial_job import Report, TrialFailure, TrialJob
from imdbtune.cluster.worker_pool import GPU, WorkerInfo, WorkerPool
from imdbtune.errors import SearchAborted
from imdbtune.tracking import artifact_transfer, reader
from imdbtune.tracking.connection import redact_secrets
from imdbtune.tracking.mlflow_names import OPEN
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import is_temporary
from imdbtune.training.spec import TrialResult

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient


@contextmanager
def open_remote_executor(
    pool: WorkerPool,
    mlflow: MlflowClient,
    outbox: Outbox,
    search: str,
    corpus: Path,
    report: Report,
    keep_model: bool = False,
) -> Iterator[DaskExecutor]:
    """Open an executor and close it at the end; see :class:`RemoteWorkers` for the arguments.

    Args:
        report: called with the metrics of each epoch.
    """
    workers = RemoteWorkers(pool, mlflow, outbox, search, corpus, keep_model)
    executor = DaskExecutor(pool.client, workers, report, pool.notify)
    try:
        yield executor
    finally:
        executor.close()


@dataclass
class RemoteWorkers(Workers):
    """The workers of a cluster, each of which runs one trial at a time.

    A trial is bound to one worker process.

    Args:
        mlflow: for the files that driver and workers exchange.
        outbox: of the search; a trial is sent once MLflow has its run.
        search: MLflow's id of the search's run.
        corpus: folder of the corpus on this machine.
        keep_model: whether workers upload all models, until the search has chosen which to log.
    """

    pool: WorkerPool
    mlflow: MlflowClient
    outbox: Outbox
    search: str
    corpus: Path
    keep_model: bool = False
    topic: str = field(default_factory=lambda: f"imdbtune-{uuid.uuid4().hex}")
    _corpus_uploaded: bool = False
    _states_uploaded: set[str] = field(default_factory=set)  # run ids
    _reported_no_worker: bool = False
    _reported_no_store: bool = False

    @property
    def slots(self) -> int:
        """How many trials run at once; 1 without workers: a trial then waits for the first."""
        return max(1, len(self.pool.usable()))

    def refresh(self) -> None:
        """Update the workers; report when there are none."""
        self.pool.refresh()
        if self.pool.workers:
            self._reported_no_worker = False
        elif self.pool.last_error:
            raise SearchAborted(f"no worker is left: {self.pool.last_error}")
        elif not self._reported_no_worker:
            self._reported_no_worker = True
            self.pool.notify(f"{self.pool.address} has no worker for trials now; waiting ...")

    def is_gone(self, task: Task) -> bool:
        """Return whether the worker has left, or has another process now."""
        current = self.pool.workers.get(_worker_of(task).address)
        return current is None or current.worker_id != _worker_of(task).worker_id

    def next_task(self, queued: Sequence[TrialJob], busy: Set[str]) -> Task | None:
        """Return a trial whose run MLflow has, for a free worker; upload what it needs.

        While the store is unreachable, all trials stay queued.
        """
        free = [worker for worker in self.pool.usable() if worker.address not in busy]
        ready = (job for job in queued if self._mlflow_run_id(job.run_id))
        job = next(ready, None) if free else None
        if job is None:
            return None
        try:
            self._upload_inputs(job, free[0])
        except Exception as error:
            if not is_temporary(error):
                raise
            if not self._reported_no_store:
                self._reported_no_store = True
                reason = (str(error).splitlines() or [""])[0][:200]
                self.pool.notify(redact_secrets(f"trials wait for the tracking store ({reason})"))
            return None
        self._reported_no_store = False
        return self._task(job, free[0])

    def kill(self, task: Task, pid: int) -> None:
        """Restart the worker; without a nanny it ends for good."""
        self.pool.restart(_worker_of(task))

    def renew(self, task: Task, address: str) -> None:
        """Restart the worker, if its nanny starts a new process."""
        if _worker_of(task).nanny:
            self.pool.restart(_worker_of(task))

    def worker_lost(self, task: Task) -> None:
        """Remove the worker from the pool."""
        self.pool.refresh()  # raises if the scheduler is lost
        self.pool.drop(_worker_of(task).address)

    def worker_failed(self, task: Task, error: SearchAborted) -> WorkerLost:
        """Send the worker no more trials; others may continue."""
        address = _worker_of(task).address
        self.pool.last_error = f"{address}: {error}"
        self.pool.refuse(address, f"cannot continue ({error})")
        return WorkerLost(str(error))

    def finished(self, job: TrialJob, outcome: Outcome) -> None:
        """Note in the outbox that the worker has ended the run in MLflow."""
        if isinstance(outcome, TrialResult):
            self._note_end(job, outcome.pruned_after, reported=True)
        elif isinstance(outcome, TrialFailure) and outcome.logged:
            self.outbox.set_terminated(job.run_id, "FAILED", reported=True)

    def recover(self, job: TrialJob, outcome: Outcome) -> Outcome | None:
        """Return how a trial ended according to MLflow; close its run if it is open."""
        try:
            return self._outcome_in_mlflow(job, outcome)
        except Exception as error:
            if not is_temporary(error):
                raise
            return None

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

    def _task(self, job: TrialJob, worker: WorkerInfo) -> Task:
        remote = RemoteTask(
            job=job,
            worker_id=worker.worker_id,
            run_id=self._mlflow_run_id(job.run_id),
            search=self.search,
            tracking_uri=self.pool.tracking_uri,
            previous_run_id=self._mlflow_run_id(job.previous_run_id),
            earlier_run_ids=tuple(filter(None, map(self._mlflow_run_id, job.earlier_run_ids))),
            keep_model=self.keep_model,
            topic=self.topic,
        )
        resources = {GPU: 1} if worker.gpu else {}
        options = {"workers": [worker.address], "resources": resources}
        return Task(job, run_remote_task, remote, worker, options)

    def _note_end(self, job: TrialJob, pruned_after: int, reported: bool = False) -> None:
        status = "KILLED" if pruned_after else "FINISHED"
        self.outbox.set_terminated(job.run_id, status, reported, pruned_after)

    def _outcome_in_mlflow(self, job: TrialJob, outcome: Outcome) -> Outcome:
        run_id = self._mlflow_run_id(job.run_id)
        trial = reader.read_run(self.mlflow, run_id)
        if trial.status in OPEN:
            # Not by way of the outbox: a worker that is only disconnected may end the run later.
            status = "FAILED" if isinstance(outcome, TrialFailure) else "KILLED"
            self.mlflow.set_terminated(run_id, status)
            return outcome
        if trial.has_result and trial.score is not None:
            self._note_end(job, trial.pruned_after)
            return RecoveredResult(trial.score, trial.pruned_after, trial.measured)
        if trial.status == "FAILED":
            self.outbox.set_terminated(job.run_id, "FAILED")
            return TrialFailure(trial.reason, "", logged=True)
        return outcome


def _worker_of(task: Task) -> WorkerInfo:
    assert task.worker is not None, "each trial is bound to a worker"
    return task.worker
