"""``imdbtune ui``: MLflow's pages over a real store, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.support import isolate, make_config, new_store, run_search

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "imdbtune", "ui", "--no-open", "--json", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_pages_are_served_until_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, tmp_path)
    _, search = run_search(make_config(tmp_path, space={"units": [4]}), tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    own = start(tmp_path, "--port", "5600")
    assert own.stdout is not None
    facts = json.loads(own.stdout.readline())
    assert facts["served"]
    assert f"/runs/{search.run_id}?" in facts["search"]
    asked = f"{facts['address']}/api/2.0/mlflow/runs/get?run_id={search.run_id}"
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert json.load(answer)["run"]["info"]["run_name"] == "tiny"

    # A store that is a server already has its pages.
    other = start(tmp_path, "--tracking-uri", facts["address"])
    told, _ = other.communicate(timeout=120)
    assert json.loads(told) == {**facts, "served": False}
    assert other.returncode == 0

    own.send_signal(signal.SIGINT)
    _, err = own.communicate(timeout=60)
    assert (own.returncode, err) == (0, "")
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
    monkeypatch.setenv("TMPDIR", str(scratch))
    own = start(tmp_path, "--port", "5650")
    assert own.stdout is not None
    address = json.loads(own.stdout.readline())["address"]
    urllib.request.urlopen(address, timeout=30).close()  # by now it waits for Ctrl-C
    assert list(scratch.iterdir())
    own.send_signal(signal.Signals[end])
    assert own.wait(30) == status
    assert_gone(address)
    deadline = time.monotonic() + 30
    while list(scratch.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
