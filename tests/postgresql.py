"""A real PostgreSQL, and a real ``mlflow server`` over it, on this machine alone."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.forked import Surroundings, environment_of, mlflow_cli, start_forked

ROOT = Path(__file__).resolve().parents[1]
USER, DATABASE = "imdbtune", "mlflow"
PATIENCE_S = 120.0


def programs() -> Path | None:
    """The folder of PostgreSQL's server programs; Debian has them off the search path."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def why_not() -> str:
    """Why there is no PostgreSQL to test with; empty if there is."""
    if programs() is None:
        return "needs a PostgreSQL server: apt-get install postgresql"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres or nobody"
    return ""


def _account() -> pwd.struct_passwd | None:
    """Whose processes the server's are where the tests are root's."""
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known.get("nobody")


def _as_its_user() -> dict[str, Any]:
    account = _account() if os.geteuid() == 0 else None
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(ready: Callable[[], bool], log: Path) -> None:
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(log.read_text("utf-8", "replace"))
        time.sleep(0.1)


@dataclass
class PostgreSQL:
    """A cluster of databases in a folder of its own, which its user can reach."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="postgresql-")))
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def environment(self) -> dict[str, str]:
        """What its clients, MLflow's server among them, need beside the address."""
        return {"PGPASSWORD": self.password}

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def make(self) -> None:
        """Make the cluster, start it, and make the database."""
        self.log.touch()
        secret = self.folder / "password"
        secret.write_text(self.password, encoding="utf-8")
        owner = _as_its_user()
        for path in (self.folder, self.log, secret):
            if owner:
                os.chown(path, owner["user"], owner["group"])
        where = [f"--pgdata={self.folder / 'data'}", f"--username={USER}", "--encoding=UTF8"]
        how = ["--auth=scram-sha-256", f"--pwfile={secret}", "--locale=C", "--no-sync"]
        self._call("initdb", *where, *how)
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, DATABASE)

    def _call(self, program: str, *arguments: str) -> None:
        folder = programs()
        assert folder is not None
        subprocess.run(
            [str(folder / program), *arguments],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            **_as_its_user(),
        )

    def start(self) -> None:
        folder = programs()
        assert folder is not None
        where = ["-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(folder / "postgres"), *where, "-c", "unix_socket_directories="],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **_as_its_user(),
            )
        wait_until(self.answers, self.log)

    def answers(self) -> bool:
        folder = programs()
        assert folder is not None
        asked = [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def kill(self) -> None:
        """At once, as in a crash: what was committed is recovered at the next start."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=PATIENCE_S)
            self.process = None


@dataclass
class TrackingServer:
    """``mlflow server`` as docs/tracking_server.md starts it, but for the number of workers."""

    folder: Path
    database: PostgreSQL
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    certificates: Path | None = None  # of deploy/certificates.sh; with them it talks TLS
    port: int = field(default_factory=free_port)
    process: BaseProcess | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def uri(self) -> str:
        return f"http{'s' if self.certificates else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
        stores = ["--backend-store-uri", self.database.uri, *artifacts]
        tls = []
        if self.certificates:
            cert, key = (self.certificates / f"tracking.{end}" for end in ("pem", "key"))
            tls = ["--uvicorn-opts", f"--ssl-certfile={cert} --ssl-keyfile={key}"]
        own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self.environment}
        known = environment_of(**self.database.environment, **own)
        around = Surroundings(self.folder, known, self.log, self.log)
        words = ["server", *stores, *where, *tls, *self.options]
        self.process = start_forked(mlflow_cli, around, words)
        wait_until(self.answers, self.log)

    def answers(self) -> bool:
        assert self.process is not None
        if not self.process.is_alive():
            raise RuntimeError(self.log.read_text("utf-8", "replace"))
        known = self.certificates and ssl.create_default_context(
            cafile=self.certificates / "ca.pem"
        )
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=5, context=known).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """All its processes at once, as a power cut does."""
        if self.process is not None:
            assert self.process.pid
            with contextlib.suppress(ProcessLookupError):  # it has not started
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.join(PATIENCE_S)
            self.process = None
