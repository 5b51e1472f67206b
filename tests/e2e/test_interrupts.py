"""Searches that are ended by a signal: their runs are closed, and the user is told how to go on."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w

from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import TrialSpec
from tests.support import isolate, make_config, prepare

PATIENCE_S = 60
# The command line over a trainer that does not come to its end.
DRIVER = """
from dataclasses import replace
from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.cluster import forkserver
from tests.e2e.test_interrupts import wait_long
from tests.support import Stub

forkserver.PRELOADED = ("mlflow.entities",)
search = api.search
api.search = lambda config, context, **rest: search(
    config, replace(context, trainer=Stub(wait_long)), **rest
)
main()
"""


def wait_long(spec: TrialSpec) -> None:
    Path(f"begun-{spec.params.units}").touch()
    time.sleep(10 * PATIENCE_S)


@pytest.mark.parametrize(
    ("workers", "signals", "code"),
    [(2, ["SIGHUP"], 129), (2, ["SIGINT", "SIGINT"], 130), (0, ["SIGHUP", "SIGTERM"], 129)],
)
def test_all_runs_are_closed_and_the_user_is_told_how_to_go_on(
    workers: int,
    signals: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    prepare(tmp_path)
    config = make_config(tmp_path, space={"units": [4, 8]})
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(config.as_dict()), encoding="utf-8")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, "search", "tiny.toml", "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(driver, max(workers, 1))
        family = psutil.Process(driver.pid).children(recursive=True)
        for name in signals:  # as a terminal sends them: to all processes
            os.killpg(driver.pid, signal.Signals[name])
            time.sleep(0.05)
        told = driver.communicate(timeout=PATIENCE_S)[1]
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
    assert driver.returncode == code, told
    client = connect(config.tracking.uri)
    search = reader.find_search(client)
    assert f"interrupted; continue with: imdbtune search --resume {search.run_id}" in told
    assert "Traceback" not in told
    ended = [(trial.status, trial.reason) for trial in reader.read_trials(client, search)]
    assert ended == [("KILLED", "interrupted")] * max(workers, 1)
    assert search.status == "KILLED"
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []


def test_a_terminal_that_is_closed_ends_a_search_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be written to it any more."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    prepare(tmp_path)
    config = make_config(tmp_path, space={"units": [4, 8]})
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(config.as_dict()), encoding="utf-8")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", DRIVER, "search", "tiny.toml", "--workers", "2"]
    driver = subprocess.Popen(
        command,
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        wait_for(driver, 2)
        os.close(ours)
        assert driver.wait(PATIENCE_S) == 129
    finally:
        driver.kill()
    client = connect(config.tracking.uri)
    search = reader.find_search(client)
    ended = [(trial.status, trial.reason) for trial in reader.read_trials(client, search)]
    assert (search.status, ended) == ("KILLED", [("KILLED", "interrupted")] * 2)


def wait_for(driver: subprocess.Popen[Any], trials: int) -> None:
    patience = time.monotonic() + PATIENCE_S
    while len(list(Path.cwd().glob("begun-*"))) < trials:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < patience
        time.sleep(0.1)
