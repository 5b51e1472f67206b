"""``imdbtune ui``: MLflow's pages over a real store, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.forked import Surroundings, environment_of, imdbtune, run_command, start_forked
from tests.machines import wait_until
from tests.support import isolate, make_config, new_store, run_search

UI = ("ui", "--no-open", "--json")


def test_the_pages_are_served_until_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, tmp_path)
    _, search = run_search(make_config(tmp_path, space={"units": [4]}), tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    out, err = (tmp_path.with_name(f"{tmp_path.name} {name}") for name in ("out", "err"))
    around = Surroundings(tmp_path, environment_of(), out, err)
    own = start_forked(imdbtune, around, *UI, "--port", "5600")
    wait_until(lambda: out.exists() and out.read_text().endswith("\n"), "no server")
    facts = json.loads(out.read_text())
    assert facts["served"]
    assert f"/runs/{search.run_id}?" in facts["search"]
    asked = f"{facts['address']}/api/2.0/mlflow/runs/get?run_id={search.run_id}"
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert json.load(answer)["run"]["info"]["run_name"] == "tiny"

    # A store that is a server already has its pages.
    other = run_command(tmp_path, *UI, "--tracking-uri", facts["address"])
    assert json.loads(other.stdout) == {**facts, "served": False}
    assert other.returncode == 0

    assert own.pid
    os.kill(own.pid, signal.SIGINT)
    own.join(60)
    assert (own.exitcode, err.read_text()) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert_gone(facts["address"])


def assert_gone(address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (URLError, OSError):
            return
        time.sleep(0.2)
    pytest.fail("the server still answers")


@pytest.mark.parametrize(("end", "status"), [("SIGKILL", -9), ("SIGHUP", 0)])
def test_nothing_is_left_of_it_however_it_ends(
    end: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    new_store(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    out, err = tmp_path / "out", tmp_path / "err"
    around = Surroundings(tmp_path, environment_of(TMPDIR=str(scratch)), out, err)
    own = start_forked(imdbtune, around, *UI, "--port", "5650")
    wait_until(lambda: out.exists() and out.read_text().endswith("\n"), "no server")
    address = json.loads(out.read_text())["address"]
    urllib.request.urlopen(address, timeout=30).close()  # by now it waits for Ctrl-C
    assert list(scratch.iterdir())
    assert own.pid
    os.kill(own.pid, signal.Signals[end])
    own.join(30)
    assert own.exitcode == status
    assert_gone(address)
    deadline = time.monotonic() + 30
    while list(scratch.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
