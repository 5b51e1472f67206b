"""Searches that are ended by a signal: their runs are closed, and the user is told how to go on."""

from __future__ import annotations

import functools
import os
import pty
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
import tomli_w

from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.cluster import forkserver
from imdbtune.config.schema import SearchConfig
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import TrialSpec
from tests.forked import STUB_PRELOADED, Surroundings, environment_of, start_forked
from tests.support import Stub, isolate, make_config, prepare

ROOT = str(Path(__file__).parents[2])
PATIENCE_S = 60


def drive(around: Surroundings, workers: int) -> None:
    """In a forked process: the command line over a trainer that does not come to its end."""
    around.enter()
    forkserver.PRELOADED = STUB_PRELOADED
    api.Context = functools.partial(api.Context, trainer=Stub(wait_long))  # type: ignore[assignment,misc]
    sys.argv = ["imdbtune", "search", "tiny.toml", "--workers", str(workers)]
    main()


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
    config = prepare_search(monkeypatch, tmp_path)
    errors = tmp_path / "errors.txt"
    around = Surroundings(tmp_path, environment_of(PYTHONPATH=ROOT), errors=errors)
    driver = start_forked(drive, around, workers)
    assert driver.pid
    try:
        wait_for(driver, max(workers, 1))
        family = psutil.Process(driver.pid).children(recursive=True)
        for name in signals:  # as a terminal sends them: to all processes
            os.killpg(driver.pid, signal.Signals[name])
            time.sleep(0.05)
        driver.join(PATIENCE_S)
    finally:
        driver.kill()
    told = errors.read_text("utf-8")
    assert driver.exitcode == code, told
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
    config = prepare_search(monkeypatch, tmp_path)
    ours, theirs = pty.openpty()
    terminal = Path(os.ttyname(theirs))
    around = Surroundings(tmp_path, environment_of(PYTHONPATH=ROOT), terminal=terminal)
    driver = start_forked(drive, around, 2)
    try:
        wait_for(driver, 2)
        os.close(theirs)
        os.close(ours)
        driver.join(PATIENCE_S)
        assert driver.exitcode == 129
    finally:
        driver.kill()
    client = connect(config.tracking.uri)
    search = reader.find_search(client)
    ended = [(trial.status, trial.reason) for trial in reader.read_trials(client, search)]
    assert (search.status, ended) == ("KILLED", [("KILLED", "interrupted")] * 2)


def prepare_search(monkeypatch: pytest.MonkeyPatch, folder: Path) -> SearchConfig:
    """Write ``tiny.toml`` of a search of two trials."""
    isolate(monkeypatch, folder)
    prepare(folder)
    config = make_config(folder, space={"units": [4, 8]})
    (folder / "tiny.toml").write_text(tomli_w.dumps(config.as_dict()), encoding="utf-8")
    return config


def wait_for(driver: BaseProcess, trials: int) -> None:
    patience = time.monotonic() + PATIENCE_S
    while len(list(Path.cwd().glob("begun-*"))) < trials:
        assert driver.is_alive()
        assert time.monotonic() < patience
        time.sleep(0.1)
