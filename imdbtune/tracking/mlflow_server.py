"""Starts MLflow's own server over the store of a search, on this machine and for this user."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

from imdbtune.errors import SearchAborted, UserError, last_line
from imdbtune.tracking import server_supervisor

if TYPE_CHECKING:
    from imdbtune.tracking.entities import Search

HOST = "127.0.0.1"
PORT = 5000
TRIES = 20  # ports, counted up from the first one
START_S = 120.0
# MLflow has two modes; without this it shows the one for traces of language models.
MODEL_TRAINING = "workflowType=machine_learning"


@dataclass(frozen=True)
class MlflowServer:
    """The address of MLflow's pages; ``process`` is the server where :func:`serve` started it."""

    address: str
    page: str  # of the search; empty without one
    process: subprocess.Popen[bytes] | None = None

    def wait(self) -> None:
        """Wait until the server ends by itself; return at once where there is no process."""
        if self.process is not None and self.process.wait():
            raise SearchAborted("MLflow's server has ended by itself.")


def run_page(address: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{address}/#/experiments/{experiment_id}/runs/{run_id}?{MODEL_TRAINING}"


def free_port(port: int) -> int:
    """Return ``port``, or the next one on which nothing listens.

    Raises:
        UserError: none of the next ones is free either.
    """
    last = min(port + TRIES, 65_536)
    for candidate in range(port, last):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:  # in use, or not for this user
                continue
            return candidate
    raise UserError(
        f"no port from {port} to {last - 1} is free; name another one with --port, or stop the "
        "program that listens there."
    )


@contextmanager
def serve(store: str, port: int = PORT) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run MLflow's server over ``store`` while the block runs; yield its address and process.

    Raises:
        UserError: no port is free.
        SearchAborted: it does not start.
    """
    address = f"http://{HOST}:{free_port(port)}"
    # The supervisor deletes the folder too, where this process is killed.
    with tempfile.TemporaryDirectory(prefix="imdbtune-ui-") as scratch:
        log = Path(scratch, "server.log")
        with log.open("wb") as output:
            process = _start(store, address, Path(scratch), output.fileno())
        assert process.stdin is not None
        try:
            _wait_for(address, process, log)
            yield address, process
        finally:
            process.stdin.close()  # ends the server
            process.wait()


@contextmanager
def open_page(store: str, port: int, search: Search | None) -> Iterator[MlflowServer]:
    """Yield MLflow's web interface on a store, at the page of a search if one is given.

    If the store is a server, it is that one; otherwise a server runs while the block runs.

    Raises:
        UserError: no port is free.
        SearchAborted: the server does not start.
    """

    def page(address: str) -> str:
        return run_page(address, search.experiment_id, search.run_id) if search else ""

    if store.startswith("http"):
        address = store.rstrip("/")
        yield MlflowServer(address, page(address))
        return
    with serve(store, port) as (address, process):
        yield MlflowServer(address, page(address), process)


def _start(store: str, address: str, scratch: Path, output: int) -> subprocess.Popen[bytes]:
    """Start the server under a supervisor, which ends it when the standard input is closed.

    It reads the store from the environment, as the URI may hold a password.
    """
    # -P: the folder of the supervisor is not for imports.
    command = [sys.executable, "-P", server_supervisor.__file__, str(scratch)]
    command += [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--workers", "1"]
    command += ["--port", address.rpartition(":")[2]]
    own = {
        "MLFLOW_BACKEND_STORE_URI": store,
        # Nothing in this package uploads through this server; others must leave no files here.
        "MLFLOW_ARTIFACTS_DESTINATION": str(scratch / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    inherited = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_RUN_ID", "MLFLOW_PORT")}
    return subprocess.Popen(
        command,
        env={**inherited, **own},
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C and a closed terminal concern this process only
    )


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(URLError, OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.1)
    reason = last_line(log.read_text(encoding="utf-8", errors="replace"), limit=300)
    raise SearchAborted(f"MLflow's server has not started{reason and f': {reason}'}")
