"""Searches that are ended by a signal: their runs are closed, and the user is told how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def wait_for(driver: subprocess.Popen[str], trials: int) -> None:
    patience = time.monotonic() + PATIENCE_S
    while len(list(Path.cwd().glob("begun-*"))) < trials:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < patience
        time.sleep(0.1)
