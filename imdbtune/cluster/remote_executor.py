"""Trials on the workers of a Dask cluster that runs already, on any machines."""

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

from imdbtune.cluster.local_executor import FinishedTask, WorkerLost, call_stack, task_outcome
from imdbtune.cluster.remote_task import RemoteTask, run_remote_task
from imdbtune.cluster.trial_job import (
    Clock,
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
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import is_temporary
from imdbtune.tracking.writer import OPEN
from imdbtune.training.spec import TrialResult

if TYPE_CHECKING:
    from distributed import Future

    from imdbtune.tracking.connection import MlflowClient

LOOK_EVERY_S = 1.0
TICK_S = 0.1


@contextmanager
def open_remote_executor(
    cluster: WorkerPool, mlflow: MlflowClient, **settings: Any
) -> Iterator[RemoteExecutor]:
    """An executor over a cluster that was reached; ``settings`` are its fields."""
    executor = RemoteExecutor(cluster, mlflow, **settings)
    try:
        yield executor
    finally:
        executor.close()


@dataclass(frozen=True)
class FinishedElsewhere:
    """A trial that MLflow has finished, though its worker did not live to say so."""

    score: float


@dataclass
class RemoteExecutor:
    """An executor over a cluster: as many trials at once as there are workers for them.

    A trial is sent to one process and nowhere else: if that dies the driver decides what becomes
    of it, not the scheduler, which would run it again unseen.

    Args:
        mlflow: a client of the store, for what travels by way of it.
        outbox: of the search; a trial waits until MLflow has its run.
        search: run id of the search.
        corpus: folder of the reviews here.
        keep_model: have models left with their runs until it is known which are kept.
    """

    cluster: WorkerPool
    mlflow: MlflowClient
    outbox: Outbox
    search: str
    corpus: Path
    report: Report
    keep_model: bool = False
    clock: Clock = time.monotonic
    _waiting: deque[TrialJob] = field(default_factory=deque)
    _sent: dict[str, tuple[TrialJob, WorkerInfo, Any]] = field(default_factory=dict)
    _ended: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    _begun: dict[str, float] = field(default_factory=dict)
    _killed: dict[str, TrialFailure] = field(default_factory=dict)
    _doubtful: list[tuple[TrialJob, Any]] = field(default_factory=list)
    _corpus_sent: bool = False
    _left: set[str] = field(default_factory=set)
    _look_at: float = 0.0
    _told_alone: bool = False
    _told_away: bool = False

    def __post_init__(self) -> None:
        self._topic = f"imdbtune-{uuid.uuid4().hex}"
        self.cluster.client.subscribe_topic(self._topic, self._note)

    @property
    def slots(self) -> int:
        """The workers that can have a trial; a trial may wait for the first one to come."""
        return max(1, len(self.cluster.usable()))

    def submit(self, job: TrialJob) -> None:
        """Send the trial as soon as MLflow has its run and a worker is free."""
        self._waiting.append(job)

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Any]]:
        """Collect what has ended.

        Raises:
            SearchAborted: the scheduler is gone, or the last worker cannot go on.
        """
        until = time.monotonic() + timeout_s
        while True:
            self._look()
            self._hand_out()
            ended = self._collect()
            if ended or time.monotonic() > until:
                return ended

    def close(self) -> None:
        """Give up what is under way; workers notice after an epoch.

        What they have finished meanwhile is only noted: the next session will find it in MLflow.
        """
        jobs = [(job, None) for job, _, _ in self._sent.values()]
        futures = [future for _, _, future in self._sent.values()]
        with suppress(Exception):  # the scheduler may be gone
            self.cluster.client.unsubscribe_topic(self._topic)
            self.cluster.client.cancel(futures)
        with suppress(Exception):  # or the store
            for job, told in [*jobs, *self._doubtful]:
                self._as_mlflow_has_it(job, told)

    def _note(self, event: tuple[float, dict[str, Any]]) -> None:
        """Called by the client's thread with what a worker tells."""
        for kind, told in event[1].items():
            if kind == "begun":
                self._begun[told] = self.clock()
            elif kind == "trained":  # what is left is to be written, and the store may be away
                self._begun.pop(told, None)
            elif kind == "notice":
                self.cluster.say(escape_control(told))
            elif kind == "epoch":  # Dask adds the worker's address
                self.report(told)

    def _look(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self.cluster.look()
        self._look_at = time.monotonic() + LOOK_EVERY_S
        for key, (_, host, _) in list(self._sent.items()):
            now = self.cluster.hosts.get(host.address)
            if now is None or now.process != host.process:
                self._ended.put((key, WorkerLost("the worker process died")))
        self._kill_overdue()
        if self.cluster.hosts:
            self._told_alone = False
        elif self.cluster.broken:
            raise SearchAborted(f"no worker is left: {self.cluster.broken}")
        elif not self._told_alone:
            self._told_alone = True
            self.cluster.say(f"{self.cluster.address} has no worker for trials now; waiting ...")

    def _kill_overdue(self) -> None:
        for key, since in list(self._begun.items()):
            if key not in self._sent or key in self._killed:
                continue
            job, host, _ = self._sent[key]
            if is_overdue(job, self.clock() - since):
                stack = call_stack(self.cluster.client, key)
                self._killed[key] = TrialFailure(time_limit_message(job), stack, logged=False)
                self.cluster.renew(host)

    def _hand_out(self) -> None:
        """Send trials to free workers; what the store has to know first may wait for it."""
        busy = {host.address for _, host, _ in self._sent.values()}
        free = [host for host in self.cluster.usable() if host.address not in busy]
        try:
            for host in free:
                job = next((j for j in self._waiting if self._run_of(j.run_id)), None)
                if job is None:
                    return
                self._prepare(job, host)
                self._waiting.remove(job)
                self._send(job, host)
                self._told_away = False
        except Exception as error:
            if not is_temporary(error):
                raise
            if not self._told_away:
                self._told_away = True
                told = (str(error).splitlines() or [""])[0][:200]
                self.cluster.say(redact_secrets(f"trials wait for the tracking store ({told})"))

    def _run_of(self, key: str) -> str:
        """MLflow's run id, once it has the run."""
        return self.outbox.delivered(key).run_id

    def _prepare(self, job: TrialJob, host: WorkerInfo) -> None:
        """Put what the trial needs where its worker can fetch it."""
        if host.lacks_corpus and not self._corpus_sent:
            if not artifact_transfer.has_corpus(self.mlflow, self.search):
                artifact_transfer.send_corpus(self.mlflow, self.search, self.corpus)
            self._corpus_sent = True
        state, before = job.spec.state, self._run_of(job.before) if job.before else ""
        if state is not None and before and before not in self._left and state.exists():
            artifact_transfer.upload_file(
                self.mlflow, before, state
            )  # it was trained on this machine
            self._left.add(before)

    def _send(self, job: TrialJob, host: WorkerInfo) -> None:
        errand = RemoteTask(
            job=job,
            process=host.process,
            run_id=self._run_of(job.run_id),
            search=self.search,
            store=self.cluster.store,
            before=self._run_of(job.before) if job.before else "",
            keep_model=self.keep_model,
            topic=self._topic,
        )
        future = self.cluster.client.submit(
            run_remote_task,
            errand,
            workers=[host.address],
            resources={GPU: 1} if host.gpu else {},
            pure=False,
            retries=0,
        )
        self._sent[future.key] = (job, host, future)
        future.add_done_callback(self._note_end)

    def _note_end(self, future: Future) -> None:
        """Called by a thread of the client's."""
        self._ended.put((future.key, task_outcome(future)))

    def _collect(self) -> list[tuple[TrialJob, Any]]:
        try:
            key, outcome = self._ended.get(timeout=TICK_S)
        except queue.Empty:
            return self._settle()
        if key not in self._sent:  # collected already
            return []
        if isinstance(outcome, WorkerLost):
            self.cluster.look()  # ends the search if it is the scheduler that is lost
        job, host, future = self._sent.pop(key)
        self._begun.pop(key, None)
        self.cluster.client.cancel([future])
        if isinstance(outcome, FinishedTask):
            if outcome.spent and host.nanny:
                self.cluster.renew(host)
            outcome = outcome.outcome
        if isinstance(outcome, SearchAborted):  # a full disk there, or no way to the store
            self.cluster.broken = f"{host.address}: {outcome}"
            self.cluster.refuse(host.address, f"cannot go on ({outcome})")
            outcome = WorkerLost(str(outcome))
        elif isinstance(outcome, WorkerLost):
            self.cluster.forget(host.address)
        if isinstance(outcome, WorkerLost):
            self._doubtful.append((job, self._killed.pop(key, outcome)))
            return self._settle()
        if isinstance(outcome, TrialResult) or outcome.logged:
            self._note_closed(job, isinstance(outcome, TrialResult), told=True)
        return [(job, outcome)]

    def _note_closed(self, job: TrialJob, well: bool, told: bool = False) -> None:
        """Let the outbox know that a run has ended: so says MLflow, or its worker ``told`` it."""
        self.outbox.set_terminated(job.run_id, "FINISHED" if well else "FAILED", told)

    def _settle(self) -> list[tuple[TrialJob, Any]]:
        """Ask MLflow about trials whose worker is lost: it may have finished them before."""
        settled = []
        for job, told in list(self._doubtful):
            try:
                outcome = self._as_mlflow_has_it(job, told)
            except Exception as error:
                if not is_temporary(error):
                    raise
                continue
            self._doubtful.remove((job, told))
            settled.append((job, outcome))
        return settled

    def _as_mlflow_has_it(self, job: TrialJob, told: Any) -> Any:
        run_id = self._run_of(job.run_id)
        trial = reader.read_run(self.mlflow, run_id)
        if trial.status in OPEN:
            # At once: a worker that is only cut off may want to end it, too.
            status = "FAILED" if isinstance(told, TrialFailure) else "KILLED"
            self.mlflow.set_terminated(run_id, status)
            return told
        if trial.status == "FINISHED" and trial.score is not None:
            self._note_closed(job, well=True)
            return FinishedElsewhere(trial.score)
        if trial.status == "FAILED":
            self._note_closed(job, well=False)
            return TrialFailure(trial.reason, "", logged=True)
        return told
