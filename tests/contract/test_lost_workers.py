"""Trials that fail, run out of memory, hang, or kill their process, in real worker processes."""

from __future__ import annotations

import functools
import math
import os
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w

from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.cluster import forkserver
from imdbtune.cluster.dask_executor import DaskExecutor
from imdbtune.cluster.executor import MAX_ATTEMPTS
from imdbtune.cluster.trial_job import TrialJob
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.forked import STUB_PRELOADED, Surroundings, environment_of, start_forked
from tests.support import (
    draw_nothing,
    isolate,
    kill_self,
    light_workers,
    make_config,
    prepare,
    stub_trainer,
)

pytestmark = pytest.mark.xdist_group("lost workers")

# What becomes of a trial is decided by its units. The last one tells that the search goes on.
GOOD, WRONG, SICK, GREEDY, STARVED, HANGING, BUSY, DEADLY, LAST = range(4, 13)
LIMIT_MINUTES = 0.05
ROOM = 2**28  # bytes that a starved trial may still have
PATIENCE_S = 300.0  # for what has to come, on however slow a machine


@dataclass(frozen=True)
class Ordeal:
    """A trainer that leaves a mark with its process, and then suffers what the units say."""

    marks: Path

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        units = spec.params.units
        (self.marks / f"{units}-{os.getpid()}-{time.monotonic_ns()}").touch()
        suffer(units)
        result = stub_trainer(spec, on_epoch)
        return replace(result, scores=(math.nan,)) if units == SICK else result


def suffer(units: int) -> None:
    if units == WRONG:
        raise ValueError("shapes do not match\nat all")
    if units == GREEDY:
        raise MemoryError("Unable to allocate 3 TiB")
    if units == STARVED:
        starve()
    if units == DEADLY:
        kill_self()
    while units == HANGING:
        time.sleep(1)
    while units == BUSY:
        pass


def starve() -> None:
    """Ask for more memory than there is."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        bytearray(4 * ROOM)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@dataclass
class Done:
    """A search that has ended, and the marks of its trials as (units, process) in order."""

    client: Any
    search: Search
    trials: list[Trial]
    marks: list[tuple[int, int]]

    def of(self, units: int) -> list[Trial]:
        found = [trial for trial in self.trials if trial.params.units == units]
        return sorted(found, key=lambda trial: trial.attempt)

    def told(self, units: int) -> list[tuple[str, str]]:
        return [(trial.status, trial.reason) for trial in self.of(units)]

    def traceback(self, units: int) -> str:
        path = self.client.download_artifacts(self.of(units)[-1].run_id, "traceback.txt")
        return Path(path).read_text("utf-8")

    def processes(self, *units: int) -> list[int]:
        return [pid for of, pid in self.marks if of in units]


def read_marks(folder: Path) -> list[tuple[int, int]]:
    found = [tuple(map(int, mark.name.split("-"))) for mark in folder.iterdir()]
    return [(units, pid) for units, pid, _ in sorted(found, key=lambda mark: mark[2])]


def limit_those_that_hang(patch: pytest.MonkeyPatch) -> None:
    """The others may take as long as a busy machine needs."""
    submit = DaskExecutor.submit

    def limited(executor: DaskExecutor, job: TrialJob) -> None:
        hangs = job.spec.params.units in (HANGING, BUSY)
        submit(executor, job if hangs else replace(job, timeout_minutes=0.0))

    patch.setattr(DaskExecutor, "submit", limited)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("dying")
    marks = folder / "marks"
    marks.mkdir()
    space = {"rnn": "gru", "units": list(range(GOOD, LAST + 1))}
    limits = {"kind": "grid", "trial_timeout": LIMIT_MINUTES}
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        prepare(folder)
        light_workers()
        draw_nothing(patch)
        limit_those_that_hang(patch)
        config = make_config(folder, space=space, tuner=limits)
        search = api.search(
            config,
            api.Context(
                workers=2, cache=folder / "cache", folder=folder / "runs", trainer=Ordeal(marks)
            ),
        )
        client = connect(config.tracking.uri)
        trials = reader.read_trials(client, search)
    return Done(client, search, trials, read_marks(marks))


def test_the_search_goes_on(done: Done) -> None:
    assert done.search.status == "FINISHED"
    assert done.told(GOOD) == done.told(LAST) == [("FINISHED", "")]
    assert done.search.metrics["trials_failed"] == LAST - GOOD - 1
    assert done.search.metrics["trials_finished"] == 2
    assert all(trial.ended_ms is not None for trial in done.trials)


def test_no_trial_is_run_more_often_than_its_runs_say(done: Done) -> None:
    runs = Counter(trial.params.units for trial in done.trials)
    assert Counter(units for units, _ in done.marks) == runs
    assert runs == {**dict.fromkeys(range(GOOD, LAST + 1), 1), DEADLY: MAX_ATTEMPTS}


def test_no_process_is_left(done: Done) -> None:
    assert not [pid for _, pid in done.marks if psutil.pid_exists(pid)]


@pytest.mark.parametrize(
    ("units", "reason", "trace"),
    [
        (WRONG, "ValueError: shapes do not match", "in suffer"),
        (SICK, "val_accuracy came out as nan.", "TrialFailed"),
        (GREEDY, "out of memory: Unable to allocate 3 TiB", "in suffer"),
        (STARVED, "out of memory", "in starve"),
        (HANGING, f"took longer than {LIMIT_MINUTES} minutes", "in suffer"),
        (BUSY, f"took longer than {LIMIT_MINUTES} minutes", ""),
    ],
)
def test_the_reason_of_a_failure_is_told(done: Done, units: int, reason: str, trace: str) -> None:
    assert done.told(units) == [("FAILED", reason)]
    assert trace in done.traceback(units)


@pytest.mark.parametrize("units", [GREEDY, STARVED, HANGING, BUSY, DEADLY])
def test_no_other_trial_comes_into_the_process(done: Done, units: int) -> None:
    """It is replaced after the trial, or it was killed; what came before may have been well."""
    for pid in done.processes(units):
        there = [of for of, process in done.marks if process == pid]
        assert there[-1] == units
        assert there.count(units) == 1


def test_a_trial_that_kills_its_process_is_lost_before_it_has_failed(done: Done) -> None:
    lost = ("KILLED", "the worker process died")
    reason = f"the worker process died {MAX_ATTEMPTS} times (out of memory?)"
    assert done.told(DEADLY) == [lost] * (MAX_ATTEMPTS - 1) + [("FAILED", reason)]
    assert len(set(done.processes(DEADLY))) == MAX_ATTEMPTS


# Ctrl-C, as a terminal sends it: to the driver and its workers.


def drive(around: Surroundings) -> None:
    """In a forked process: search, with workers that need no TensorFlow."""
    around.enter()
    forkserver.PRELOADED = STUB_PRELOADED
    trainer = Ordeal(Path("marks").absolute())
    api.Context = functools.partial(api.Context, trainer=trainer)  # type: ignore[assignment,misc]
    sys.argv = ["imdbtune", "search", "tiny.toml", "--workers", "2"]
    main()


def test_ctrl_c_closes_all_runs_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    prepare(tmp_path)
    marks = tmp_path / "marks"
    marks.mkdir()
    config = make_config(tmp_path, space={"rnn": "gru", "units": [GOOD, HANGING, BUSY, LAST]})
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(config.as_dict()), encoding="utf-8")
    errors = tmp_path / "errors"
    driver = start_forked(drive, Surroundings(tmp_path, environment_of(), errors=errors))
    assert driver.pid
    try:
        wait_for_marks(driver, errors, marks, {GOOD, HANGING, BUSY})
        family = psutil.Process(driver.pid).children(recursive=True)
        os.killpg(driver.pid, signal.SIGINT)
        driver.join(PATIENCE_S)
    finally:
        if driver.is_alive():
            os.killpg(driver.pid, signal.SIGKILL)
    told = errors.read_text("utf-8")
    assert driver.exitcode == 130, told
    client = connect(config.tracking.uri)
    search = reader.find_search(client)
    assert f"interrupted; continue with: imdbtune search --resume {search.run_id}" in told
    assert "Traceback" not in told
    trials = {trial.params.units: trial for trial in reader.read_trials(client, search)}
    ended = {units: (trial.status, trial.reason) for units, trial in trials.items()}
    killed = ("KILLED", "interrupted")
    assert ended == {GOOD: ("FINISHED", ""), HANGING: killed, BUSY: killed}
    assert search.status == "KILLED"
    assert {pid for _, pid in read_marks(marks)} <= {process.pid for process in family}
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []


def wait_for_marks(driver: BaseProcess, errors: Path, marks: Path, units: set[int]) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not units <= {of for of, _ in read_marks(marks)}:
        assert driver.is_alive(), errors.read_text("utf-8")
        assert time.monotonic() < patience
        time.sleep(0.1)
