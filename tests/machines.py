"""A Dask cluster and a tracking server as processes of their own, as on several machines.

Each has a folder of its own, and the workers have caches of their own.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from tests.forked import Surroundings, environment_of, start_forked
from tests.support import draw_nothing, prepare

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120.0
CLONE_NEWNET = 0x40000000  # of Linux's setns


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(is_so: object, what: str) -> None:
    assert callable(is_so)
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.02)


@dataclass(frozen=True)
class Machine:
    """Where the processes of a machine run: in a folder, and in a network of its own or in ours."""

    surroundings: Surroundings
    network: str = ""

    def enter(self) -> None:
        if self.network:
            _enter_network(self.network)
        self.surroundings.enter()
        dask.config.refresh()  # it has read the variables when it was imported


def _enter_network(name: str) -> None:
    with Path("/run/netns", name).open() as namespace:
        linux = ctypes.CDLL(None, use_errno=True)
        if linux.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"the network {name} cannot be entered")


def _run(machine: Machine, module: str, arguments: list[str]) -> None:
    machine.enter()
    draw_nothing(pytest.MonkeyPatch())
    importlib.import_module(module).main(arguments)


def _serve(machine: Machine, *where: Any) -> None:
    machine.enter()
    from tests.tracking_server import serve

    serve(*where)


@dataclass
class Tracking:
    """A server that can be killed and started again, with its store and files in ``folder``."""

    host: str
    port: int
    machine: Machine
    process: BaseProcess | None = None

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def folder(self) -> Path:
        return self.machine.surroundings.folder

    @property
    def running(self) -> int:
        """The id of the process."""
        assert self.process
        assert self.process.pid
        return self.process.pid

    def start(self) -> None:
        store, artifacts = f"sqlite:///{self.folder / 'mlflow.db'}", str(self.folder / "artifacts")
        self.process = start_forked(_serve, self.machine, store, artifacts, self.host, self.port)

    def wait(self) -> None:
        wait_until(lambda: answers(self.address), "the tracking server does not answer")

    def kill(self) -> None:
        if self.process:
            kill(self.process)


@dataclass
class Machines:
    """What runs, in ``folder``."""

    folder: Path
    started: list[BaseProcess] = field(default_factory=list)
    servers: list[Tracking] = field(default_factory=list)

    def machine(self, name: str, environment: Mapping[str, str] = {}, network: str = "") -> Machine:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        # Dask's nannies fork their workers, too.
        ours = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "fork"}
        ours |= {"PYTHONPATH": str(ROOT), "IMDBTUNE_CACHE": str(place / "cache")}
        log = place / "log.txt"
        known = environment_of(**{**ours, **environment})
        return Machine(Surroundings(place, known, log, log), network)

    def start(self, name: str, module: str, *command: str, **more: Any) -> BaseProcess:
        process = start_forked(_run, self.machine(name, **more), module, [*command])
        self.started.append(process)
        return process

    def scheduler(
        self,
        name: str = "scheduler",
        host: str = "127.0.0.1",
        protocol: str = "tcp",
        **more: Any,
    ) -> str:
        """Start one; its address."""
        port, file = free_port(), self.folder / f"{name}.json"
        where = ["--host", host, "--port", str(port), "--protocol", protocol, "--no-dashboard"]
        told = ["--scheduler-file", str(file)]
        self.start(name, "distributed.cli.dask_scheduler", *where, *told, **more)
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), name)
        return str(json.loads(file.read_text())["address"])

    def worker(self, name: str, scheduler: str, *options: str, **more: Any) -> BaseProcess:
        where = ["--local-directory", str(self.folder / name / "scratch"), "--no-dashboard"]
        command = [scheduler, "--nthreads", "1", *where, "--name", name, *options]
        return self.start(name, "distributed.cli.dask_worker", *command, **more)

    def tracking(self, host: str = "127.0.0.1", network: str = "") -> Tracking:
        """MLflow's server over an SQLite file, which keeps the artifacts in its own folder too."""
        machine = self.machine("tracking", network=network)
        prepare(machine.surroundings.folder)
        made = Tracking(host, free_port(), machine)
        self.servers.append(made)
        made.start()
        return made

    def log(self, name: str) -> str:
        return (self.folder / name / "log.txt").read_text("utf-8", "replace")

    def end(self) -> None:
        for process in self.started:
            kill(process)
        for server in self.servers:
            server.kill()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5).close()
    except OSError:
        return False
    return True


def kill(process: BaseProcess) -> None:
    """With all that it has started."""
    if process.is_alive():
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # first of all, as a nanny would start another worker
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.join()


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        made = Machines(folder)
        stack.callback(made.end)
        yield made
