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
from contextlib import ExitStack, contextmanager
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
        assert self.starter.stdin
        assert self.starter.stdout
        self.starter.stdin.write(b"start\n")
        self.starter.stdin.flush()
        self.running = int(self.starter.stdout.readline())

    def wait(self) -> None:
        wait_until(lambda: answers(self.address), "the tracking server does not answer")

    def kill(self) -> None:
        os.kill(self.running, signal.SIGKILL)


@dataclass
class Machines:
    """What runs, in ``folder``; ``within`` is what a command begins with to run elsewhere."""

    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self,
        name: str,
        *command: str,
        environment: Mapping[str, str] = {},
        within: Sequence[str] = (),
        pipes: Mapping[str, int] = {},
    ) -> subprocess.Popen[bytes]:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        known = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "IMDBTUNE_"))}
        known |= {"PYTHONPATH": str(ROOT), "IMDBTUNE_CACHE": str(place / "cache"), **environment}
        with (place / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [*within, sys.executable, *command],
                cwd=place,
                env=known,
                stderr=log,
                start_new_session=True,
                **{"stdin": subprocess.DEVNULL, "stdout": log, **pipes},  # type: ignore[call-overload]
            )
        self.started.append(process)
        return process

    def scheduler(
        self,
        name: str = "scheduler",
        host: str = "127.0.0.1",
        protocol: str = "tcp",
        **more: object,
    ) -> str:
        """Start one; its address."""
        port, file = free_port(), self.folder / f"{name}.json"
        where = ["--host", host, "--port", str(port), "--protocol", protocol, "--no-dashboard"]
        told = ["--scheduler-file", str(file)]
        self.start(name, "-m", "distributed.cli.dask_scheduler", *where, *told, **more)  # type: ignore[arg-type]
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), name)
        return str(json.loads(file.read_text())["address"])

    def worker(
        self, name: str, scheduler: str, *options: str, **more: object
    ) -> subprocess.Popen[bytes]:
        where = ["--local-directory", str(self.folder / name / "scratch"), "--no-dashboard"]
        command = ["-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", *where]
        return self.start(name, *command, "--name", name, *options, **more)  # type: ignore[arg-type]

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

    def log(self, name: str) -> str:
        return (self.folder / name / "log.txt").read_text("utf-8", "replace")

    def end(self) -> None:
        for process in self.started:
            kill(process)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5).close()
    except OSError:
        return False
    return True


def kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    if process.poll() is None:
        family = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        for member in family:
            try:
                member.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
    process.wait()


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        made = Machines(folder)
        stack.callback(made.end)
        yield made
