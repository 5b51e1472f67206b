"""Executors that run trials in this process, or in worker processes of a local Dask cluster."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from imdbtune.cluster import forkserver
from imdbtune.cluster.executor import Executor, InProcessExecutor, WorkerLost
from imdbtune.cluster.start_failure import start_failure
from imdbtune.cluster.trial_job import (
    Clock,
    EpochEnded,
    Report,
    TrialFailure,
    TrialJob,
    failure_of,
    is_overdue,
    run_trial,
    time_limit_message,
    warm_up,
)
from imdbtune.errors import SearchAborted
from imdbtune.training.xla_cache import cache_environment

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

    from imdbtune.training.spec import TrialResult

TOPIC = "imdbtune"
BEGUN = "imdbtune-begun"
# TensorFlow keeps compiled code in memory: a worker that has grown to this many bytes is renewed.
RENEW_ABOVE = 3 * 2**30
# Seconds for a new worker process to start, an idle one to end, a worker to send its call stack.
NEW_WORKER_S = 60
LEAVE_S = 20
STACK_S = 5


@dataclass
class DaskExecutor:
    """Run trials as tasks of a Dask cluster."""

    client: Client
    slots: int
    clock: Clock = time.monotonic
    _jobs: dict[str, TrialJob] = field(default_factory=dict)
    _ended: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    _started: dict[str, _Started] = field(default_factory=dict)
    _killed: dict[str, TrialFailure] = field(default_factory=dict)
    _short: bool = False  # a worker has died, and its replacement may not be there yet

    def __post_init__(self) -> None:
        self.client.subscribe_topic(BEGUN, self._note_start)

    def submit(self, job: TrialJob) -> None:
        """Send the trial to a free worker."""
        if self._short:  # or the trial could queue behind another one, and die with its worker
            with contextlib.suppress(TimeoutError):
                self.client.wait_for_workers(self.slots, timeout=NEW_WORKER_S)
            self._short = False
        future = self.client.submit(_run_in_worker, job, pure=False, retries=0)
        self._jobs[future.key] = job
        future.add_done_callback(self._collect)

    def done(self, timeout_s: float) -> list[tuple[TrialJob, Any]]:
        """Return the outcomes of trials that have ended; a lost worker is one of them."""
        self._kill_overdue()
        try:
            key, outcome = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return []
        job = self._jobs.pop(key)
        if isinstance(outcome, SearchAborted):  # such as a full disk
            raise outcome
        killed = self._killed.pop(key, None)
        self._short |= bool(killed) or isinstance(outcome, WorkerLost)
        if isinstance(outcome, WorkerLost):
            return [(job, killed or outcome)]
        if not isinstance(outcome, FinishedTask):
            return [(job, outcome)]
        if outcome.outcome is None:
            self.submit(job)
            return []
        if outcome.spent:
            self._renew(outcome.worker)
        return [(job, outcome.outcome)]

    def _collect(self, future: Future) -> None:
        """Queue the outcome of a finished trial. A thread of the client calls this."""
        self._started.pop(future.key, None)
        outcome = task_outcome(future)
        try:
            self.client.cancel([future])
        finally:
            self._ended.put((future.key, outcome))

    def _renew(self, worker: str) -> None:
        """Replace a worker's process; it rejects trials that reach it meanwhile."""
        leaving = self.client.submit(kill_this_process, workers=[worker], pure=False, retries=0)
        with contextlib.suppress(TimeoutError):  # it has died meanwhile
            leaving.exception(timeout=LEAVE_S)
        self._short = True

    def _note_start(self, event: tuple[float, dict[str, Any]]) -> None:
        """Note that a worker has started a trial. A thread of the client calls this."""
        started = event[1]
        self._started[started["key"]] = _Started(started["pid"], self.clock())

    def _kill_overdue(self) -> None:
        for key, started in list(self._started.items()):
            job = self._jobs.get(key)
            if job and key not in self._killed and is_overdue(job, self.clock() - started.at):
                stack = call_stack(self.client, key)
                self._killed[key] = TrialFailure(time_limit_message(job), stack, logged=False)
                if key in self._started:  # it has not ended meanwhile
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(started.pid, signal.SIGKILL)  # its nanny starts another process


def call_stack(client: Client, key: str) -> str:
    """Return the call stack of a trial, if its worker still answers."""
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # the trial has to end in any case
        # Client.call_stack() has no timeout, and would wait for a process that hangs.
        found = client.sync(client.scheduler.call_stack, keys=[key], callback_timeout=STACK_S)
    lines = [line for frames in found.values() for line in frames.get(key, ())]
    return "".join(lines) or "the worker did not send its call stack"


def task_outcome(future: Future) -> Any:
    """Return the outcome of a trial whose future is done."""
    error = future.exception()
    if isinstance(error, TaskEnded):
        return error.ran
    if isinstance(error, SearchAborted):
        return error
    if error is None:  # cancelled, as all are when the scheduler is lost: no task returns a value
        return WorkerLost("the connection to the worker was lost")
    if type(error).__name__ in ("KilledWorker", "FutureCancelledError", "CancelledError"):
        return WorkerLost("the worker process died")
    lines = traceback.format_exception(type(error), error, future.traceback())
    return failure_of(error, "".join(lines), logged=False)


@dataclass(frozen=True)
class _Started:
    """The process that runs a trial, and since when."""

    pid: int
    at: float  # by the executor's clock


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


_spent = False  # whether this worker process takes no more trials


def _run_in_worker(job: TrialJob) -> None:
    global _spent
    from distributed import get_worker

    worker = get_worker()
    if _spent:
        raise TaskEnded(FinishedTask(None, worker.address, _spent))
    outcome: TrialResult | TrialFailure
    try:
        warm_up(job)
        if job.timeout_minutes:
            worker.log_event(BEGUN, {"key": worker.get_current_task(), "pid": os.getpid()})
        outcome = run_trial(job, lambda event: worker.log_event(TOPIC, {"epoch": asdict(event)}))
    except MemoryError as error:
        outcome = failure_of(error, traceback.format_exc(), logged=False)
    _spent = must_be_renewed(outcome)
    raise TaskEnded(FinishedTask(outcome, worker.address, _spent))


def must_be_renewed(outcome: TrialResult | TrialFailure | WorkerLost) -> bool:
    """Return whether memory ran out, which leaves objects half made, or the process has grown."""
    import psutil

    if isinstance(outcome, TrialFailure) and outcome.out_of_memory:
        return True
    return bool(psutil.Process().memory_info().rss > RENEW_ABOVE)


def kill_this_process() -> None:
    """Kill this worker process; its nanny starts another one."""
    os.kill(os.getpid(), signal.SIGKILL)


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_environment(threads: int) -> dict[str, str]:
    """Return environment variables that have to be set before TensorFlow is imported."""
    return {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        # A step allocates 20 to 90 MB for a moment. The C library returns such blocks to the
        # system, and page faults for new ones take half of an LSTM's time. TensorFlow's own
        # allocator, made for GPUs, keeps them.
        "TF_CPU_ALLOCATOR_USE_BFC": "true",
        # Pages of 2 MB where Linux has them save 5 % of an LSTM's time.
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES") or "glibc.malloc.hugetlb=1",
    }


def training_environment(cache: Path) -> dict[str, str]:
    """Return the environment variables of a process that trains with one thread."""
    return {**thread_environment(1), **cache_environment(cache)}


@contextmanager
def open_local_executor(
    workers: int, folder: Path, report: Report, environment: Mapping[str, str]
) -> Iterator[Executor]:
    """Yield an executor over ``workers`` processes with one thread each; 0: this process.

    Args:
        folder: for Dask's scratch files, and ``workers.log``, which gets the output of the
            worker processes.
        report: called in this process with each event of a worker.
        environment: variables of the worker processes: see :func:`training_environment`.
    """
    if workers == 0:
        yield InProcessExecutor(report)
        return
    import dask
    from distributed import Client
    from distributed.utils import get_mp_context

    settings = {
        "distributed.worker.multiprocessing-method": forkserver.method(),
        # Has to be set before a worker's interpreter starts.
        "distributed.nanny.pre-spawn-environ": environment,
        # The driver starts a lost trial again, as a new attempt with its own run.
        "distributed.scheduler.allowed-failures": 0,
        # By default Dask gives up a worker whose process is not back after 15 s.
        "distributed.deploy.lost-worker-timeout": "365 days",
        "distributed.admin.log-format": "%(message)s",
        # Dask's own periodic work takes 3 % of two cores from the trials. No tasks have to be moved
        # and no memory has to be managed.
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "10s",
        "distributed.scheduler.active-memory-manager.start": False,
        "distributed.scheduler.work-stealing": False,
        "distributed.worker.profile.enabled": False,
        # Dask's web pages show nothing useful, and are open to every user of the machine.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(settings):
        get_mp_context()  # sets Dask's own list of modules to preload, once; ours replaces it
        forkserver.begin(environment)
        cluster = _start(workers, folder)
        try:
            with Client(cluster, set_as_default=False) as client:
                client.register_plugin(_plugin(folder))
                client.subscribe_topic(TOPIC, lambda event: report(EpochEnded(**event[1]["epoch"])))
                try:
                    yield DaskExecutor(client, workers)
                except BaseException:
                    _kill(cluster)
                    raise
        finally:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=5)


def _start(workers: int, folder: Path) -> Any:
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Temporary certificates: other users of this machine can reach the ports, and Dask runs
            # whatever it is sent.
            security=True,
            dashboard_address="127.0.0.1:0",  # any free port; it has no pages
            memory_limit=0,
            local_directory=str(folder),
            silence_logs=50,
        )
    except RuntimeError as error:
        raise start_failure(error) from None  # it names the reason in a line


def _kill(cluster: Any) -> None:
    """Kill the worker processes: a training does not react to anything else."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


def _hold_lock(folder: Path) -> filelock.BaseFileLock:
    """Acquire a lock that is held as long as this worker process lives."""
    lock = filelock.FileLock(folder / f"worker-{os.getpid()}.lock")
    lock.acquire()
    return lock


def await_workers(folder: Path, timeout_s: float = 60.0) -> None:
    """Wait for the workers of a driver that has died: they end with it, but may still be writing.

    Raises:
        SearchAborted: one of them does not end.
    """
    for path in folder.glob("worker-*.lock"):
        try:
            with filelock.FileLock(path, timeout=timeout_s):
                path.unlink(missing_ok=True)
        except filelock.Timeout:
            pid = path.stem.partition("-")[2]
            raise SearchAborted(
                f"process {pid} still trains a trial of this search; end it first: kill {pid}"
            ) from None


def _plugin(folder: Path) -> Any:
    from distributed import WorkerPlugin

    class Quiet(WorkerPlugin):
        """Send a worker's output to the log file, and leave Ctrl-C to the driver."""

        name = "imdbtune-quiet"

        def setup(self, worker: Worker) -> None:
            """Set up the worker process before its first trial."""
            self.lock = _hold_lock(folder)
            descriptor = os.open(
                folder / "workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
            )
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # The run that `mlflow run` created is the search's; trials must not write there.
            os.environ.pop("MLFLOW_RUN_ID", None)

    return Quiet()
