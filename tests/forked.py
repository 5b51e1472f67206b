"""Processes that start in no time: copies of one that has imported all that tests need.

Each process of a test session has one such process, multiprocessing's fork server. Worker processes
of searches are copies of it as well.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from imdbtune.cluster import forkserver
from imdbtune.cluster.local_executor import thread_environment

FORKS = multiprocessing.get_context("forkserver")
WARMED = (*forkserver.PRELOADED, "tests.warmed")
# What the workers of a stub trainer need, in the place of forkserver.PRELOADED.
STUB_PRELOADED = ("distributed", "mlflow.entities", "tests.support")
OURS = ("MLFLOW_", "IMDBTUNE_")  # variables that each test sets for itself
_server = multiprocessing.forkserver._forkserver  # this process's, which searches use as well
_warmed: int | None = None


def warm_up() -> None:
    """Have the fork server of this process import all that tests need, once."""
    global _warmed
    if _warmed is not None and _server._forkserver_pid == _warmed:
        return
    _server._stop()
    FORKS.set_forkserver_preload([*WARMED])
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(OURS)]:
            patch.delenv(name)
        for name, value in thread_environment(1).items():
            patch.setenv(name, value)
        multiprocessing.forkserver.ensure_running()
    _warmed = _server._forkserver_pid


@dataclass
class OtherServer:
    """A fork server beside that of this process, which other variables were set for."""

    server: Any  # a ForkServer of multiprocessing

    def run(self, target: Callable[..., None], *arguments: object) -> int | None:
        """Return the exit status of a process that is forked from this server."""
        process = FORKS.Process(target=target, args=arguments)
        with pytest.MonkeyPatch.context() as patch:
            connect = self.server.connect_to_new_process
            patch.setattr(multiprocessing.forkserver, "connect_to_new_process", connect)
            process.start()
        process.join()
        return process.exitcode


@contextmanager
def other_server(preload: Sequence[str], variables: Mapping[str, str]) -> Iterator[OtherServer]:
    """Yield a fork server that imports ``preload`` where ``variables`` are set.

    Some variables, and packages that add extensions, are of use only before the first import.
    """
    server: Any = multiprocessing.forkserver.ForkServer()
    server.set_forkserver_preload([*preload])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        paths = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
        patch.setattr(sys, "path", [*paths, *sys.path])
        server.ensure_running()
    try:
        yield OtherServer(server)
    finally:
        server._stop()


def use_server_of_parent(patch: pytest.MonkeyPatch) -> None:
    """In a forked process: fork from the same server, instead of starting another one."""
    patch.setattr(multiprocessing.forkserver, "ensure_running", lambda: None)
    patch.setattr(_server, "ensure_running", lambda: None)


def start_forked(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a process in which the libraries are imported already."""
    warm_up()
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    return process


def run_forked(target: Callable[..., None], *arguments: object) -> int | None:
    """Return the exit status of a process in which the libraries are imported already."""
    process = start_forked(target, *arguments)
    process.join()
    return process.exitcode


@dataclass(frozen=True)
class Surroundings:
    """What a program finds about it.

    Args:
        folder: its working directory.
        environment: all its variables.
        output: receives what it writes to its standard output, and ``errors`` the rest.
        given: its standard input.
        terminal: a device that is all three of its standard streams instead.
    """

    folder: Path
    environment: Mapping[str, str]
    output: Path = Path(os.devnull)
    errors: Path = Path(os.devnull)
    given: Path = Path(os.devnull)
    terminal: Path | None = None

    def enter(self) -> None:
        """Make this process one of its own session, as a terminal starts it."""
        os.setsid()
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        tempfile.tempdir = None  # or it stays what it was in the process that was forked
        sys.path[:0] = [p for p in self.environment.get("PYTHONPATH", "").split(os.pathsep) if p]
        write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        streams = [(self.given, os.O_RDONLY), (self.output, write), (self.errors, write)]
        if self.terminal:
            streams = [(self.terminal, os.O_RDWR)] * 3
        for number, (path, how) in enumerate(streams):
            opened = os.open(path, how)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", 1, encoding="utf-8", closefd=False) for number in (1, 2)
        )


def environment_of(**more: str) -> dict[str, str]:
    """Return the variables of this process, of ours only the cache, and ``more``."""
    known = os.environ.items()
    kept = {k: v for k, v in known if k == "IMDBTUNE_CACHE" or not k.startswith(OURS)}
    return {**kept, **more}


def run_command(
    folder: Path, *arguments: str, given: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``imdbtune`` as a process of its own; return its exit status and what it writes."""
    with tempfile.TemporaryDirectory() as scratch:
        output, errors, stdin = (Path(scratch, name) for name in ("output", "errors", "given"))
        stdin.write_bytes(given)
        around = Surroundings(folder, environment_of(**variables), output, errors, stdin)
        status = run_forked(imdbtune, around, *arguments)
        assert status is not None
        told = [path.read_text("utf-8", "backslashreplace") for path in (output, errors)]
    return subprocess.CompletedProcess(arguments, status, *told)


def imdbtune(around: Surroundings, *arguments: str) -> None:
    """In a forked process: be ``python -m imdbtune`` with these arguments."""
    around.enter()
    sys.argv = ["imdbtune", *arguments]
    from imdbtune.cli.app import main

    main()


def mlflow_cli(around: Surroundings, arguments: list[str]) -> None:
    """In a forked process: be ``mlflow`` with these arguments."""
    around.enter()
    from mlflow.cli import cli

    cli(arguments)


def run_code(around: Surroundings, code: str, *arguments: str) -> None:
    """In a forked process: be ``python -c code`` with these arguments."""
    around.enter()
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
