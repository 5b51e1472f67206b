"""Where trials run: in this process, or in worker processes of a local Dask cluster."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from imdbtune.worker import Report, TrialFailure, TrialJob, run_trial

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

    from imdbtune.trial import TrialResult

Outcome = "TrialResult | TrialFailure | WorkerLost"
TOPIC = "imdbtune"
# TensorFlow keeps what it has compiled: a worker that has grown to this many bytes is renewed.
RENEW_ABOVE = 3 * 2**30


@dataclass(frozen=True)
class WorkerLost:
    """The process that trained a trial has died."""

    reason: str


class Executor(Protocol):
    """Runs trials; several at once if ``slots`` is above 1."""

    slots: int

    def submit(self, job: TrialJob) -> None:
        """Start a trial, or queue it."""

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Any]]:
        """The trials that have ended, with their outcomes; waits ``timeout_s`` for one."""


@dataclass
class InProcess:
    """One trial at a time, in this process: for debugging, and for the command ``train``."""

    report: Report
    slots: int = 1
    _waiting: list[TrialJob] = field(default_factory=list)

    def submit(self, job: TrialJob) -> None:
        """Queue the trial; it runs when :meth:`done` is called."""
        self._waiting.append(job)

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Any]]:
        """Run the queued trials."""
        jobs, self._waiting = self._waiting, []
        return [(job, run_trial(job, self.report)) for job in jobs]


@dataclass
class OnDask:
    """Trials as tasks of a Dask cluster."""

    client: Client
    slots: int
    _jobs: dict[str, TrialJob] = field(default_factory=dict)
    _ended: queue.SimpleQueue[Future] = field(default_factory=queue.SimpleQueue)

    def submit(self, job: TrialJob) -> None:
        """Send the trial to a free worker."""
        future = self.client.submit(_run_in_worker, job, pure=False, retries=0)
        self._jobs[future.key] = job
        future.add_done_callback(self._ended.put)

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Any]]:
        """Collect what has ended; a lost worker is an outcome too."""
        try:
            future = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return []
        job, outcome = self._jobs.pop(future.key), _outcome(future)
        if not isinstance(outcome, _Ran):
            return [(job, outcome)]
        if outcome.bytes > RENEW_ABOVE:
            # It is idle: a new trial is only sent after this returns.
            self.client.restart_workers([outcome.worker], raise_for_error=False)
        return [(job, outcome.outcome)]


def _outcome(future: Future) -> Any:
    error = future.exception()
    if error is None:
        return future.result()
    if type(error).__name__ in ("KilledWorker", "FutureCancelledError", "CancelledError"):
        return WorkerLost("the worker process died")
    return TrialFailure(f"{type(error).__name__}: {error}", repr(error), logged=False)


@dataclass(frozen=True)
class _Ran:
    """A trial's outcome, and where: the worker's address and its resident memory in bytes."""

    outcome: TrialResult | TrialFailure
    worker: str
    bytes: int


def _run_in_worker(job: TrialJob) -> _Ran:
    import psutil
    from distributed import get_worker

    worker = get_worker()
    outcome = run_trial(job, lambda event: worker.log_event(TOPIC, event))
    return _Ran(outcome, worker.address, psutil.Process().memory_info().rss)


def cpu_count() -> int:
    """The processors that this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables, to be set before TensorFlow is imported: threads, and less talk."""
    return {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


@contextmanager
def open_cluster(workers: int, folder: Path, report: Report) -> Iterator[Executor]:
    """An executor over ``workers`` processes with one thread each; 0: this process.

    Args:
        folder: for Dask's scratch files, and ``workers.log``, which receives all that the
            worker processes print.
        report: called in this process with each event that a worker reports.
    """
    if workers == 0:
        yield InProcess(report)
        return
    import dask
    from distributed import Client, LocalCluster

    settings = {
        # What must be set before a worker's interpreter starts.
        "distributed.nanny.pre-spawn-environ": thread_environment(1),
        # A lost trial is started again by the driver, as a new attempt with a run of its own.
        "distributed.scheduler.allowed-failures": 0,
        "distributed.admin.log-format": "%(message)s",
        "distributed.worker.profile.enabled": False,
        # Dask's web pages, which are open to every user of the machine, have nothing to show.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(settings), _without(os.environ, "MLFLOW_RUN_ID"):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Certificates that live as long as the cluster: other users of this machine can
            # reach its ports, and what Dask is sent it runs.
            security=True,
            dashboard_address=None,
            memory_limit=0,
            local_directory=str(folder),
            silence_logs=50,
        )
        try:
            with Client(cluster, set_as_default=False) as client:
                client.register_plugin(_plugin(folder / "workers.log"))
                client.subscribe_topic(TOPIC, lambda event: report(event[1]))
                try:
                    yield OnDask(client, workers)
                except BaseException:
                    _kill(cluster)
                    raise
        finally:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=5)


def _kill(cluster: Any) -> None:
    """End the worker processes at once: a training does not listen."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def _without(environment: Any, name: str) -> Iterator[None]:
    kept = environment.pop(name, None)
    try:
        yield
    finally:
        if kept is not None:
            environment[name] = kept


def _plugin(log: Path) -> Any:
    from distributed import WorkerPlugin

    class Quiet(WorkerPlugin):
        """Sends a worker's output to the log file and leaves Ctrl-C to the driver."""

        name = "imdbtune-quiet"

        def setup(self, worker: Worker) -> None:
            """Runs in the worker process before its first trial."""
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Quiet()
