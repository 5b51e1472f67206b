"""Trials that run out of memory, hang, or die with their process, in real worker processes."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from imdbtune import api, results
from imdbtune.results import Search, Trial
from imdbtune.store import connect
from imdbtune.trial import TrialSpec
from imdbtune.tuner import MAX_ATTEMPTS
from tests.support import Stub, isolate, kill_self, make_config, prepare

# What becomes of a trial is decided by its units.
GOOD, GREEDY, HANGING, DEADLY = 4, 5, 6, 7
LIMIT_MINUTES = 0.25
HANG_S = 120.0


def ordeal(marks: Path, spec: TrialSpec) -> None:
    """Leave a mark with the process and the seed; then suffer what the units say."""
    units = spec.params.units
    (marks / f"{units}-{spec.seed}-{os.getpid()}-{time.monotonic_ns()}").touch()
    if units == GREEDY:
        raise MemoryError("Unable to allocate 3 TiB")
    if units == HANGING:
        time.sleep(HANG_S)
    if units == DEADLY:
        kill_self()


@dataclass
class Done:
    """A search that has ended, and the marks of its trials as (units, seed, process) in order."""

    client: Any
    search: Search
    trials: list[Trial]
    marks: list[tuple[int, ...]]

    def of(self, units: int) -> list[Trial]:
        found = [trial for trial in self.trials if trial.params.units == units]
        return sorted(found, key=lambda trial: trial.attempt)

    def artifact(self, trial: Trial) -> str:
        path = self.client.download_artifacts(trial.run_id, "traceback.txt")
        return Path(path).read_text("utf-8")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("dying")
    marks = folder / "marks"
    marks.mkdir()
    space = {"rnn": "gru", "units": [GREEDY, HANGING, DEADLY, GOOD]}
    limits = {"kind": "grid", "trial_timeout": LIMIT_MINUTES}
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        prepare(folder)
        config = make_config(folder, space=space, tuner=limits)
        trainer = Stub(functools.partial(ordeal, marks))
        search = api.search(
            config, workers=1, cache=folder / "cache", folder=folder / "runs", trainer=trainer
        )
        client = connect(config.tracking.uri)
        trials = results.read_trials(client, search)
    made = sorted((tuple(map(int, m.name.split("-"))) for m in marks.iterdir()), key=lambda m: m[3])
    return Done(client, search, trials, [mark[:3] for mark in made])


def test_the_search_goes_on(done: Done) -> None:
    assert done.search.status == "FINISHED"
    finished = {trial.params.units for trial in done.trials if trial.status == "FINISHED"}
    assert finished == {GOOD}
    assert done.search.metrics["trials_failed"] == 3
    assert {trial.status for trial in done.trials} == {"FINISHED", "FAILED", "KILLED"}
    assert all(trial.ended_ms is not None for trial in done.trials)


def test_out_of_memory_is_said_and_the_process_is_renewed(done: Done) -> None:
    reasons = {(trial.status, trial.reason) for trial in done.of(GREEDY)}
    assert reasons == {("FAILED", "out of memory: Unable to allocate 3 TiB")}
    assert "MemoryError" in done.artifact(done.of(GREEDY)[0])
    suspect = {pid for units, _, pid in done.marks if units == GREEDY}
    assert len(suspect) == 1
    assert not [units for units, _, pid in done.marks if pid in suspect and units != GREEDY]


def test_a_trial_that_hangs_has_failed_and_its_process_is_gone(done: Done) -> None:
    trials = done.of(HANGING)
    told = {(trial.status, trial.reason) for trial in trials}
    assert told == {("FAILED", f"took longer than {LIMIT_MINUTES} minutes")}
    assert "ordeal" in done.artifact(trials[0])
    hung = [pid for units, _, pid in done.marks if units == HANGING]
    assert len(hung) == 1
    assert not [pid for pid in hung if psutil.pid_exists(pid)]


def test_a_trial_that_kills_its_process_is_lost_before_it_has_failed(done: Done) -> None:
    trials = done.of(DEADLY)
    states = Counter(trial.status for trial in trials)
    assert states == {"KILLED": MAX_ATTEMPTS - 1, "FAILED": 1}
    reasons = {trial.reason for trial in trials if trial.status == "FAILED"}
    assert reasons == {f"the worker process died {MAX_ATTEMPTS} times (out of memory?)"}
    assert len({pid for units, _, pid in done.marks if units == DEADLY}) == MAX_ATTEMPTS
