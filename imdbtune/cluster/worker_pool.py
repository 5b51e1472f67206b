"""Connect to an existing Dask cluster and keep track of the workers that can run trials."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imdbtune.cluster import dask_adapter
from imdbtune.cluster.compatibility import (
    ON_SCHEDULER,
    ON_WORKERS,
    PACKAGES,
    differences,
    local_versions,
    remote_versions,
    version_probe,
)
from imdbtune.cluster.dask_adapter import KnownWorker
from imdbtune.cluster.remote_task import Inspection, inspect_worker
from imdbtune.cluster.worker_task import kill_this_process
from imdbtune.errors import SearchAborted, UserError, escape_control, short_repr
from imdbtune.tracking.connection import hide_secrets, is_local

if TYPE_CHECKING:
    from distributed import Client

    from imdbtune.tracking.connection import MlflowClient, Notify

CONNECT_S = 15
SCHEDULER_S = 30  # for a busy scheduler to answer
INSPECT_S = 120  # for workers to import MLflow and to connect to the store
RETRY_S = 3  # between two inspections of a worker that did not answer
RESTART_S = 20
GPU = "GPU"  # Dask resource of the workers that have a graphics card
SERVER_HINT = (
    "start a server that they can reach (mlflow server --host 0.0.0.0 --port 5000) and use "
    "--tracking-uri http://ITS-HOST:5000"
)


def check_store(uri: str, address: str) -> None:
    """Check by its URI that the workers of a cluster can reach a tracking store.

    Args:
        uri: of the tracking store.
        address: of the cluster's scheduler.

    Raises:
        UserError: only this machine can use the store.
    """
    if is_local(uri):
        problem = "is on this machine's disk"
    elif _is_loopback(urlsplit(uri).hostname) and not _is_loopback(urlsplit(address).hostname):
        problem = "only this machine can reach"
    else:
        return
    raise UserError(
        f"the workers of {address} cannot write to {hide_secrets(uri)}, which {problem}; "
        f"{SERVER_HINT}."
    )


def check_artifacts(client: MlflowClient, experiment_id: str) -> None:
    """Check that the artifacts of an experiment are not stored in a local folder.

    Raises:
        UserError: they are: each worker would write them to its own disk.
    """
    found = client.get_experiment(experiment_id)
    if urlsplit(found.artifact_location).scheme in ("", "file"):
        raise UserError(
            f"experiment {found.name!r} stores its artifacts in "
            f"{short_repr(found.artifact_location)}, a folder on the disk of each machine that "
            "writes them; start mlflow server with --artifacts-destination and choose a new "
            "--experiment."
        )


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


@dataclass
class WorkerInfo:
    """A worker that can run trials, one at a time."""

    address: str
    worker_id: str  # changes with the worker's process, unlike the address
    gpu: bool
    nanny: bool  # whether a nanny starts a new process when this one has died
    lacks_corpus: bool
    running: bool = True


# By an inspection: why the worker's versions do not fit, or what it is; None: it did not answer.
_Found = str | Inspection | None


@dataclass
class WorkerPool:
    """The workers of a cluster, which may join and leave at any time.

    Args:
        address: of the scheduler.
        tracking_uri: of MLflow, as the workers reach it.
        digest: of the corpus.
        notify: called with one line when a worker is refused.
        workers: those that can run trials, by address.
        refused: reasons of those that cannot, by address.
        last_error: of the worker that was last found unable to run trials.
    """

    client: Client
    address: str
    tracking_uri: str = field(repr=False)
    digest: str
    notify: Notify
    workers: dict[str, WorkerInfo] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    last_error: str = ""
    _inspected: set[str] = field(default_factory=set)  # addresses, also of inspections under way
    _inspections: queue.SimpleQueue[tuple[str, _Found]] = field(default_factory=queue.SimpleQueue)
    _retry_at: dict[str, float] = field(default_factory=dict)  # when to inspect again, by address
    _restarting: set[str] = field(default_factory=set)  # worker ids
    _checked: bool = False
    _connection: object | None = None

    def check(self) -> None:
        """Inspect the scheduler and all present workers.

        Raises:
            UserError: one of them cannot be used.
        """
        self._connection = dask_adapter.connection(self.client)
        mismatch = _version_mismatch(self.client.run_on_scheduler, ON_SCHEDULER)
        if mismatch:
            raise UserError(f"the scheduler {self.address} {mismatch}")
        self.refresh()
        deadline = time.monotonic() + INSPECT_S
        while (
            self._inspected - self.workers.keys() - self.refused.keys()
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
            self.refresh()
        for address, reason in self.refused.items():
            raise UserError(f"worker {address} {reason}")
        self._checked = True

    def refresh(self) -> None:
        """Update the lists of workers; start inspections of new ones.

        Raises:
            SearchAborted: the scheduler does not answer.
        """
        present = self._list_workers()
        for known in (self.workers, self.refused):
            for address in known.keys() - present.keys():
                del known[address]
        now = time.monotonic()
        due = {address for address, at in self._retry_at.items() if at < now}
        self._inspected &= present.keys() - due
        self._retry_at = {a: at for a, at in self._retry_at.items() if a not in due}
        for address in present.keys() - self._inspected:
            self._inspected.add(address)
            threading.Thread(target=self._inspect, args=[address], daemon=True).start()
        while not self._inspections.empty():
            address, found = self._inspections.get()
            if address in present:
                self._admit(address, present[address], found)
        for address, worker in self.workers.items():
            worker.running = present[address].running

    def _list_workers(self) -> dict[str, KnownWorker]:
        lost = f"the scheduler {self.address} does not answer any more, or has been restarted"
        connection = dask_adapter.connection(self.client)
        if connection is not self._connection or connection is None:
            raise SearchAborted(lost)
        try:
            return dask_adapter.list_workers(self.client, SCHEDULER_S)
        except Exception as error:
            raise SearchAborted(lost) from error

    def _inspect(self, address: str) -> None:
        """Inspect a worker, in a thread of its own because the worker may hang."""

        def run(function: Callable[..., Any], *arguments: object) -> Any:
            return self.client.run(function, *arguments, workers=[address])[address]

        found: _Found = None
        with contextlib.suppress(Exception):  # the worker has died, or will be inspected again
            found = _version_mismatch(run, ON_WORKERS) or run(
                inspect_worker, self.tracking_uri, self.digest
            )
        self._inspections.put((address, found))

    def _admit(self, address: str, known: KnownWorker, found: _Found) -> None:
        """Add or refuse a worker: ``known`` to the scheduler, ``found`` by the inspection."""
        if isinstance(found, str):
            self.refuse(address, escape_control(found)[:500])
        elif found is None or found.worker_id in self._restarting:
            self._retry_at[address] = time.monotonic() + RETRY_S
        elif found.store_problem:
            self.refuse(address, escape_control(found.store_problem)[:500])
            self._retry_at[address] = time.monotonic() + RETRY_S  # the store may recover
        else:
            self.refused.pop(address, None)
            self.workers[address] = WorkerInfo(
                address,
                found.worker_id,
                gpu=bool(known.resources.get(GPU)),
                nanny=known.nanny,
                lacks_corpus=found.lacks_corpus,
            )

    def refuse(self, address: str, reason: str) -> None:
        """Send a worker no more trials."""
        self.workers.pop(address, None)
        known, self.refused[address] = self.refused.get(address), reason
        if self._checked and reason != known:
            self.notify(f"worker {address} {reason}; it gets no trials.")

    def drop(self, address: str) -> None:
        """Remove a worker whose process has died; a new one at its address is inspected."""
        self.workers.pop(address, None)
        self._inspected.discard(address)

    def usable(self) -> list[WorkerInfo]:
        """Return the running workers; only those with graphics cards if there are any."""
        running = [worker for worker in self.workers.values() if worker.running]
        return [worker for worker in running if worker.gpu] or running

    def restart(self, worker: WorkerInfo) -> None:
        """Restart a worker's process; without a nanny it ends for good."""
        self._restarting.add(worker.worker_id)
        self.drop(worker.address)
        threading.Thread(target=self._restart, args=[worker], daemon=True).start()

    def _restart(self, worker: WorkerInfo) -> None:
        """Restart a worker, in a thread of its own because the worker may hang."""
        with contextlib.suppress(Exception):  # it may have ended by itself
            if worker.nanny:
                self.client.restart_workers([worker.address], RESTART_S, raise_for_error=False)
            else:
                self.client.run(kill_this_process, workers=[worker.address])


def _version_mismatch(run: Callable[..., Any], names: Sequence[str]) -> str:
    """Return a message about the versions that differ; empty if none does.

    ``Client.get_versions(check=True)`` would wait for workers that hang, warns instead of failing,
    and does not know the version of imdbtune.

    Args:
        run: runs a function in the other process.
        names: the packages to compare.
    """
    from distributed.versions import get_versions

    local = local_versions()
    differ = differences(local, remote_versions(run(get_versions, PACKAGES)), names)
    # Any version of Python can run the function above, but only the same one can run this probe.
    differ = differ or differences(local, {"imdbtune": run(version_probe())}, names)
    return f"has other versions: {differ}; install the same on all machines" if differ else ""


@contextmanager
def open_worker_pool(
    address: str, tracking_uri: str, digest: str, notify: Notify
) -> Iterator[WorkerPool]:
    """Connect to a running cluster and check it; TLS settings come from Dask's configuration.

    Args:
        address: of the scheduler; for the others see :class:`WorkerPool`.

    Raises:
        UserError: no scheduler answers, or the scheduler or a worker cannot be used.
    """
    from distributed import Client
    from distributed.security import Security

    try:
        security = Security()
        asyncio.run(dask_adapter.probe(address, security, CONNECT_S))
        settings = {"security": security, "timeout": CONNECT_S, "set_as_default": False}
        client = Client(address, name="imdbtune", **settings)
    except Exception as error:  # from sockets, TLS or Dask
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"no Dask scheduler can be used at {address} ({reason[:200]}); start one with "
            "dask scheduler, or correct the address or Dask's TLS configuration."
        ) from error
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a lost connection is reported as SearchAborted
    try:
        pool = WorkerPool(client, address, tracking_uri, digest, notify)
        pool.check()
        yield pool
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=5)
        logger.setLevel(level)
