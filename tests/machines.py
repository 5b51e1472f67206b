"""A Dask cluster and a tracking server as processes of their own, as on several machines.

Each has a folder of its own, and the workers have caches of their own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support import prepare

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120.0


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


@dataclass
class Tracking:
    """A server that can be killed and started again, with its store and files in ``folder``."""

    address: str
    folder: Path
    starter: subprocess.Popen[bytes]
    running: int = 0

    def start(self) -> None:
        self.running = int(ask(self.starter, "start"))

    def wait(self) -> None:
        wait_until(lambda: answers(self.address), "the tracking server does not answer")

    def kill(self) -> None:
        os.kill(self.running, signal.SIGKILL)


@dataclass
class Machines:
    """What runs, in ``folder``; ``within`` is what a command begins with to run elsewhere."""

    folder: Path
    started: list[psutil.Process] = field(default_factory=list)
    _dask: subprocess.Popen[bytes] | None = None

    def start(
        self,
        name: str,
        *command: str,
        environment: Mapping[str, str] = {},
        within: Sequence[str] = (),
        pipes: Mapping[str, int] = {},
    ) -> subprocess.Popen[bytes]:
        place = self.place(name)
        with (place / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [*within, sys.executable, *command],
                cwd=place,
                env=self.environment(name, environment),
                stderr=log,
                start_new_session=True,
                **{"stdin": subprocess.DEVNULL, "stdout": log, **pipes},  # type: ignore[call-overload]
            )
        self.started.append(psutil.Process(process.pid))
        return process

    def place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return place

    def environment(self, name: str, more: Mapping[str, str]) -> dict[str, str]:
        known = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "IMDBTUNE_"))}
        own = {"PYTHONPATH": str(ROOT), "IMDBTUNE_CACHE": str(self.place(name) / "cache")}
        return {**known, **own, **more}

    def dask(
        self,
        name: str,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] = {},
        within: Sequence[str] = (),
    ) -> None:
        """Start one of Dask's commands; it is forked unless it needs an interpreter of its own."""
        if within or "PYTHONPATH" in environment:
            self.start(name, "-m", module, *arguments, environment=environment, within=within)
            return
        if self._dask is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._dask = self.start("dask", "-m", "tests.dask_server", pipes=pipes)
        # Else a nanny would start a new interpreter for its worker.
        forked = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "fork"}
        command = {
            "module": module,
            "arguments": arguments,
            "folder": str(self.place(name)),
            "environment": self.environment(name, forked | {**environment}),
        }
        pid = int(ask(self._dask, json.dumps(command)))
        self.started.append(psutil.Process(pid))

    def scheduler(
        self,
        name: str = "scheduler",
        host: str = "127.0.0.1",
        protocol: str = "tcp",
        **more: object,
    ) -> str:
        """Start one; its address."""
        file = self.folder / f"{name}.json"
        where = ["--host", host, "--port", "0", "--protocol", protocol, "--no-dashboard"]
        told = ["--scheduler-file", str(file)]
        self.dask(name, "distributed.cli.dask_scheduler", *where, *told, **more)  # type: ignore[arg-type]
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), name)
        return str(json.loads(file.read_text())["address"])

    def worker(self, name: str, scheduler: str, *options: str, **more: object) -> psutil.Process:
        where = ["--local-directory", str(self.folder / name / "scratch"), "--no-dashboard"]
        command = ["distributed.cli.dask_worker", scheduler, "--nthreads", "1", *where]
        self.dask(name, *command, "--name", name, *options, **more)  # type: ignore[arg-type]
        return self.started[-1]

    def tracking(self, host: str = "127.0.0.1", within: Sequence[str] = ()) -> Tracking:
        """MLflow's server over an SQLite file, which keeps the artifacts in its own folder too."""
        place = self.folder / "tracking"
        place.mkdir()
        prepare(place)
        port = free_port()
        store, artifacts = f"sqlite:///{place / 'mlflow.db'}", str(place / "artifacts")
        command = ["-m", "tests.tracking_server", store, artifacts, str(port), host]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        starter = self.start("tracking", *command, within=within, pipes=pipes)
        made = Tracking(f"http://{host}:{port}", place, starter)
        made.start()
        return made

    def end(self) -> None:
        for process in reversed(self.started):  # what has forked them lets the dead be gone
            kill(process)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5).close()
    except OSError:
        return False
    return True


def ask(process: subprocess.Popen[bytes], line: str) -> bytes:
    """Send a line to a process, and return the line that it answers."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()
    return process.stdout.readline()


def kill(process: psutil.Process) -> None:
    """With all that it has started."""
    if process.is_running():
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait(PATIENCE_S)


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        made = Machines(folder)
        stack.callback(made.end)
        yield made
