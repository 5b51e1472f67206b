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
from tests.support import Stub, isolate, kill_self, make_config, new_store, prepare

# What becomes of a trial is decided by its units.
GOOD, GREEDY, HANGING, DEADLY, UNLUCKY = 4, 5, 6, 7, 8
LIMIT_MINUTES = 0.03
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
    if units == UNLUCKY and spec.seed == 0:
        raise FloatingPointError("divided by zero")


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
    space = {"rnn": "gru", "units": [GREEDY, HANGING, DEADLY, UNLUCKY, GOOD]}
    limits = {"kind": "grid", "trial_timeout": LIMIT_MINUTES, "retries": 1}
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
    assert finished == {GOOD, UNLUCKY}
    assert done.search.metrics["trials_failed"] == 3
    assert {trial.status for trial in done.trials} == {"FINISHED", "FAILED", "KILLED"}
    assert all(trial.ended_ms is not None for trial in done.trials)


def test_a_failed_trial_is_tried_again_with_another_seed(done: Done) -> None:
    first, second = done.of(UNLUCKY)
    assert (first.status, first.reason) == ("FAILED", "FloatingPointError: divided by zero")
    assert (second.status, second.attempt) == ("FINISHED", 2)
    assert [seed for units, seed, _ in done.marks if units == UNLUCKY] == [0, 1]
    assert "in ordeal" in done.artifact(first)


def test_out_of_memory_is_said_and_the_process_is_renewed(done: Done) -> None:
    reasons = {(trial.status, trial.reason) for trial in done.of(GREEDY)}
    assert reasons == {("FAILED", "out of memory: Unable to allocate 3 TiB")}
    assert "MemoryError" in done.artifact(done.of(GREEDY)[0])
    suspect = {pid for units, _, pid in done.marks if units == GREEDY}
    assert len(suspect) == 2
    assert not [units for units, _, pid in done.marks if pid in suspect and units != GREEDY]


def test_a_trial_that_hangs_has_failed_and_its_process_is_gone(done: Done) -> None:
    trials = done.of(HANGING)
    told = {(trial.status, trial.reason) for trial in trials}
    assert told == {("FAILED", f"took longer than {LIMIT_MINUTES} minutes")}
    assert [trial.attempt for trial in trials] == [1, 2]
    assert "ordeal" in done.artifact(trials[0])
    hung = [pid for units, _, pid in done.marks if units == HANGING]
    assert len(set(hung)) == 2
    assert not [pid for pid in hung if psutil.pid_exists(pid)]


def test_a_trial_that_kills_its_process_is_lost_before_it_has_failed(done: Done) -> None:
    trials = done.of(DEADLY)
    states = Counter(trial.status for trial in trials)
    assert states == {"KILLED": MAX_ATTEMPTS - 1, "FAILED": 2}
    reasons = {trial.reason for trial in trials if trial.status == "FAILED"}
    assert reasons == {f"the worker process died {MAX_ATTEMPTS} times (out of memory?)"}
    assert len({pid for units, _, pid in done.marks if units == DEADLY}) == MAX_ATTEMPTS + 1


def test_the_time_limit_counts_from_the_start_on_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one worker for all, most trials wait for longer than they may take."""
    from imdbtune.cluster import open_cluster
    from imdbtune.worker import TrialFailure, TrialJob

    isolate(monkeypatch, tmp_path)
    uri = new_store(tmp_path)
    jobs = []
    for number in range(4):
        run = connect(uri).create_run("0").info.run_id
        spec = TrialSpec(_params(), tmp_path, tmp_path / str(number))
        jobs.append(
            TrialJob(f"{number}", spec, uri, run, None, False, Stub(nap), timeout_minutes=0.05)
        )
    with open_cluster(1, tmp_path, lambda event: None) as executor:
        for job in jobs:
            executor.submit(job)
        ended: list[Any] = []
        while len(ended) < len(jobs):
            ended += executor.done(0.2)
    assert not [outcome for _, outcome in ended if isinstance(outcome, TrialFailure)]


def nap(spec: TrialSpec) -> None:
    time.sleep(1.0)


def _params() -> Any:
    from imdbtune.params import TrialParams

    return TrialParams()
