"""A Dask cluster that runs already: which of its workers may have trials."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from imdbtune.cluster.compatibility import (
    PACKAGES,
    PASSING_ON,
    TRAINING,
    differences,
    local_versions,
    remote_versions,
    version_probe,
)
from imdbtune.cluster.local_executor import kill_this_process
from imdbtune.cluster.remote_task import inspect_worker
from imdbtune.errors import SearchAborted, UserError, escape_control, short_repr
from imdbtune.tracking.connection import hide_secrets, is_local

if TYPE_CHECKING:
    from distributed import Client

    from imdbtune.tracking.connection import MlflowClient

CONNECT_S = 15
ANSWER_S = 30  # for a scheduler that is busy
EXAMINE_S = 120  # for workers to import what tells the versions and the store
AGAIN_S = 3  # until a worker that did not answer is asked anew
LEAVE_S = 20
GPU = "GPU"  # what workers call the resource
SERVER = (
    "start a server that they reach (mlflow server --host 0.0.0.0 --port 5000), and name it: "
    "--tracking-uri http://ITS-HOST:5000"
)


def check_store(uri: str, address: str) -> None:
    """Raise UserError where workers of a cluster cannot reach a tracking store, by its address."""
    told = hide_secrets(uri)
    if is_local(uri):
        raise UserError(
            f"the workers of {address} cannot write to {told}, which is on this machine's disk; "
            f"{SERVER}."
        )
    if _is_loopback(urlsplit(uri).hostname) and not _is_loopback(urlsplit(address).hostname):
        raise UserError(
            f"the workers of {address} cannot write to {told}, which only this machine reaches; "
            f"{SERVER}."
        )


def check_artifacts(client: MlflowClient, experiment_id: str) -> None:
    """Raise UserError where an experiment's files lie in a folder of whichever machine writes."""
    found = client.get_experiment(experiment_id)
    if urlsplit(found.artifact_location).scheme in ("", "file"):
        raise UserError(
            f"experiment {found.name!r} keeps its files in "
            f"{short_repr(found.artifact_location)}, a "
            "folder of whichever machine writes; start mlflow server with --artifacts-destination "
            "and name a new --experiment."
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
    """A worker that may have trials, one at a time."""

    address: str
    process: str  # changes when its process is replaced, as the address may not
    gpu: bool
    nanny: bool
    lacks_corpus: bool
    running: bool = True


@dataclass
class WorkerPool:
    """The workers behind a scheduler, as they come and go.

    Args:
        store: MLflow's address, as the workers are to use it.
        digest: of the reviews.
        say: called with a line about workers that get no trials.
    """

    client: Client
    address: str
    store: str = field(repr=False)
    digest: str
    say: Callable[[str], None]
    hosts: dict[str, WorkerInfo] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # why, by address
    broken: str = ""  # what the last worker said that has failed us
    _asked: set[str] = field(default_factory=set)
    _answers: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    _again: dict[str, float] = field(default_factory=dict)  # when to ask anew
    _leaving: set[str] = field(default_factory=set)  # processes that are being replaced
    _checked: bool = False
    _connection: Any = None

    def check(self) -> None:
        """Ask the scheduler and all workers that are there.

        Raises:
            UserError: one does not fit.
        """
        self._connection = self.client.scheduler_comm
        call, scheduler = self.client.sync, self.client.scheduler
        wrong = self._mismatch(
            lambda: call(scheduler.versions, packages=PACKAGES),
            lambda: self.client.run_on_scheduler(version_probe()),
            PASSING_ON,
        )
        if wrong:
            raise UserError(f"the scheduler {self.address} {wrong}")
        self.look()
        until = time.monotonic() + EXAMINE_S
        while self._asked - self.hosts.keys() - self.refused.keys() and time.monotonic() < until:
            time.sleep(0.05)
            self.look()
        for address, reason in self.refused.items():
            raise UserError(f"worker {address} {reason}")
        self._checked = True

    def _mismatch(
        self, dasks: Callable[[], Any], ours: Callable[[], str], names: Sequence[str]
    ) -> str:
        here, there = local_versions(), remote_versions(dasks())
        differ = differences(here, there, names)
        differ = differ or differences(here, {"imdbtune": ours()}, names)
        return f"has other versions: {differ}; install the same there and here" if differ else ""

    def look(self) -> None:
        """Take note of who has come and gone.

        Raises:
            SearchAborted: the scheduler does not answer.
        """
        there = self._workers()
        for known in (self.hosts, self.refused):
            for address in known.keys() - there.keys():
                del known[address]
        now = time.monotonic()
        self._asked &= there.keys() - {address for address, at in self._again.items() if at < now}
        self._again = {address: at for address, at in self._again.items() if at >= now}
        for address in there.keys() - self._asked:
            self._asked.add(address)
            threading.Thread(target=self._examine, args=[address], daemon=True).start()
        while not self._answers.empty():
            address, answer = self._answers.get()
            if address in there:
                self._admit(address, there[address], answer)
        for address, host in self.hosts.items():
            host.running = there[address]["status"] == "running"

    def _workers(self) -> dict[str, Any]:
        lost = f"the scheduler {self.address} does not answer any more, or has been restarted"
        if self.client.scheduler_comm is not self._connection or self._connection is None:
            raise SearchAborted(lost)
        try:
            told = self.client.sync(
                self.client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_S
            )
        except Exception as error:  # Dask has several for this
            raise SearchAborted(lost) from error
        return dict(told["workers"])

    def _examine(self, address: str) -> None:
        """In a thread: a worker that hangs holds nobody up."""

        def ask(*question: Any) -> Any:
            return self.client.run(*question, workers=[address])[address]

        def versions() -> Any:
            message = {"op": "versions", "packages": PACKAGES}
            broadcast = self.client.scheduler.broadcast
            return self.client.sync(broadcast, msg=message, workers=[address])[address]

        answer: dict[str, Any] = {}
        try:
            answer["wrong"] = self._mismatch(versions, lambda: ask(version_probe()), TRAINING)
            if not answer["wrong"]:
                answer |= ask(inspect_worker, self.store, self.digest)
        except Exception:  # it has died meanwhile; or it will be asked again
            answer = {"silent": True}
        self._answers.put((address, answer))

    def _admit(self, address: str, known: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        if answer.get("silent") or answer.get("process") in self._leaving:
            self._again[address] = time.monotonic() + AGAIN_S
        elif answer["wrong"] or answer["away"]:
            self.refuse(address, escape_control(answer["wrong"] or answer["away"])[:500])
            if not answer["wrong"]:  # the store may be back soon
                self._again[address] = time.monotonic() + AGAIN_S
        else:
            self.refused.pop(address, None)
            self.hosts[address] = WorkerInfo(
                address,
                answer["process"],
                gpu=bool(known["resources"].get(GPU)),
                nanny=bool(known["nanny"]),
                lacks_corpus=answer["lacks"],
            )

    def refuse(self, address: str, reason: str) -> None:
        """Give a worker no more trials."""
        self.hosts.pop(address, None)
        known, self.refused[address] = self.refused.get(address), reason
        if self._checked and reason != known:
            self.say(f"worker {address} {reason}; it gets no trials.")

    def forget(self, address: str) -> None:
        """Ask who is at an address when it is next looked at: the process has gone."""
        self.hosts.pop(address, None)
        self._asked.discard(address)

    def usable(self) -> list[WorkerInfo]:
        """Those that can have trials: the ones with graphics cards, if there are any such."""
        running = [host for host in self.hosts.values() if host.running]
        return [host for host in running if host.gpu] or running

    def renew(self, host: WorkerInfo) -> None:
        """Have a worker's process replaced; where nobody starts another one, it ends."""
        self._leaving.add(host.process)
        self.forget(host.address)
        threading.Thread(target=self._replace, args=[host], daemon=True).start()

    def _replace(self, host: WorkerInfo) -> None:
        """In a thread: a process may hang so that it does not answer."""
        with contextlib.suppress(Exception):  # it may have gone by itself
            if host.nanny:
                self.client.restart_workers([host.address], LEAVE_S, raise_for_error=False)
            else:
                self.client.run(kill_this_process, workers=[host.address])


async def _knock(address: str, security: Any) -> None:
    """A client that finds nobody would keep the process from ending for half a minute."""
    from distributed.comm import connect

    comm = await connect(address, timeout=CONNECT_S, **security.get_connection_args("client"))
    await comm.close()


@contextmanager
def open_worker_pool(
    address: str, store: str, digest: str, say: Callable[[str], None]
) -> Iterator[WorkerPool]:
    """A running cluster whose scheduler and workers fit; Dask's configuration says how it is met.

    Raises:
        UserError: nobody answers there, or what is there does not fit.
    """
    from distributed import Client
    from distributed.security import Security

    try:
        security = Security()
        asyncio.run(_knock(address, security))
        settings = {"security": security, "timeout": CONNECT_S, "set_as_default": False}
        client = Client(address, name="imdbtune", **settings)
    except Exception as error:  # of sockets, of TLS, of Dask
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"no Dask scheduler can be used at {address} ({reason[:200]}); start one with "
            "dask scheduler, or mend the address or Dask's configuration of TLS."
        ) from error
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # its traceback of a lost connection says nothing new
    try:
        cluster = WorkerPool(client, address, store, digest, say)
        cluster.check()
        yield cluster
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=5)
        logger.setLevel(level)
