"""Open the executor of this machine: worker processes of a local Dask cluster, or this process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from imdbtune.cluster import dask_adapter, forkserver
from imdbtune.cluster.dask_executor import DaskExecutor, Task, Workers
from imdbtune.cluster.executor import Executor, InProcessExecutor
from imdbtune.cluster.start_failure import start_failure
from imdbtune.cluster.trial_job import Report, TrialJob
from imdbtune.cluster.worker_task import TOPIC, kill_this_process, run_local_task
from imdbtune.errors import SearchAborted
from imdbtune.training.xla_cache import cache_environment

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Worker, WorkerPlugin

# Seconds for a new worker process to start, and for an idle one to end.
NEW_WORKER_S = 60
LEAVE_S = 20


@dataclass
class LocalWorkers(Workers):
    """Worker processes of this machine, of which Dask's scheduler chooses one for each trial."""

    client: Client
    count: int
    topic: str = TOPIC
    _short: bool = False  # a worker has died, and its replacement may not be there yet

    @property
    def slots(self) -> int:
        """The number of processes."""
        return self.count

    def next_task(self, queued: Sequence[TrialJob], busy: Set[str]) -> Task:
        """Return the first trial."""
        if self._short:  # or the trial could queue behind another one, and die with its worker
            with contextlib.suppress(TimeoutError):
                self.client.wait_for_workers(self.count, timeout=NEW_WORKER_S)
            self._short = False
        return Task(queued[0], run_local_task, queued[0])

    def kill(self, task: Task, pid: int) -> None:
        """Kill the process; its nanny starts another one."""
        # Client.restart_workers would first ask it to end, and wait four seconds.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def renew(self, task: Task, address: str) -> None:
        """Replace the worker's process; it rejects trials that reach it meanwhile."""
        leaving = self.client.submit(kill_this_process, workers=[address], pure=False, retries=0)
        with contextlib.suppress(TimeoutError):  # it has died meanwhile
            leaving.exception(timeout=LEAVE_S)
        self._short = True

    def worker_lost(self, task: Task) -> None:
        """Let the next trial wait for the new process."""
        self._short = True


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

    with dask.config.set(_dask_settings(environment)):
        dask_adapter.set_preload()  # ours replaces it
        forkserver.begin(environment)
        cluster = _start(workers, folder)
        try:
            with Client(cluster, set_as_default=False) as client:
                client.register_plugin(_plugin(folder))
                try:
                    yield DaskExecutor(client, LocalWorkers(client, workers), report)
                except BaseException:
                    dask_adapter.kill_processes(cluster)
                    raise
        finally:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=5)


def _dask_settings(environment: Mapping[str, str]) -> dict[str, object]:
    """Return Dask's settings for the scheduler and the workers of this machine."""
    return {
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


def _start(workers: int, folder: Path) -> LocalCluster:
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


def _plugin(folder: Path) -> WorkerPlugin:
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
