"""Where MLflow's pages are served, without serving them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from imdbtune import api
from imdbtune.cli.ui import has_display
from imdbtune.errors import UserError
from imdbtune.tracking import mlflow_server, server_supervisor
from tests.support import isolate, make_config, run_search


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as bound:
        bound.bind((mlflow_server.HOST, 0))
        bound.listen()
        yield bound.getsockname()[1]


def test_a_port_in_use_gives_way_to_the_next_free_one(taken: int) -> None:
    free = mlflow_server.free_port(taken)
    assert taken < free < taken + mlflow_server.TRIES
    assert mlflow_server.free_port(free) == free


def test_without_a_free_port_it_says_so(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_server, "TRIES", 1)
    with pytest.raises(UserError, match=rf"no port from {taken} to {taken} is free.*--port"):
        mlflow_server.free_port(taken)


def test_the_page_of_a_run_is_that_of_model_training() -> None:
    page = mlflow_server.run_page("http://127.0.0.1:5000", "7", "abc")
    assert page == "http://127.0.0.1:5000/#/experiments/7/runs/abc?workflowType=machine_learning"


@pytest.mark.parametrize(("variable", "value"), [("DISPLAY", ":0"), ("WAYLAND_DISPLAY", "w-0")])
def test_a_browser_needs_a_display(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    monkeypatch.setenv(variable, value)
    assert has_display()


def test_a_search_that_there_is_not_starts_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    config = make_config(tmp_path, space={"units": [4]})
    run_search(config, tmp_path)
    monkeypatch.setattr(
        "imdbtune.tracking.mlflow_server.serve", lambda *_: pytest.fail("a server was started")
    )
    with (
        pytest.raises(UserError, match="no search 'other'"),
        api.ui("other", uri=config.tracking.uri),
    ):
        pass


# A server with a process of its own; both write their ids, and do not end by themselves.
SERVER = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("ids.part").write_text(f"{__import__('os').getpid()} {child.pid}")
pathlib.Path("ids.part").rename("ids")
time.sleep(600)
"""
STARTER = """
import subprocess, sys, time
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", ["SIGKILL", "SIGHUP"])
def test_the_server_ends_with_its_starter_however_that_ends(end: str, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    supervisor = [sys.executable, "-P", server_supervisor.__file__, str(scratch)]
    command = [sys.executable, "-c", STARTER, *supervisor, sys.executable, "-c", SERVER]
    starter = subprocess.Popen(command, cwd=tmp_path)
    wait_until((tmp_path / "ids").exists)
    ids = [int(number) for number in (tmp_path / "ids").read_text().split()]
    assert all(map(psutil.pid_exists, ids))
    starter.send_signal(signal.Signals[end])
    starter.wait(10)
    wait_until(lambda: not any(map(psutil.pid_exists, ids)))
    wait_until(lambda: not scratch.exists())


def test_a_server_that_ends_by_itself_tells_its_status(tmp_path: Path) -> None:
    command = [sys.executable, "-P", server_supervisor.__file__, str(tmp_path)]
    command += [sys.executable, "-c", "raise SystemExit(7)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as supervisor:
        assert supervisor.wait(30) == 7
    assert tmp_path.exists()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
