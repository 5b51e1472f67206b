"""Searches whose driver is killed again and again, and which come out as if nothing had been.

The drivers are processes of their own, killed by SIGKILL: before and after each kind of note in
the journal, and at moments that a seeded clock chooses.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api, results, tracking
from imdbtune.config import SearchConfig
from imdbtune.errors import UserError
from imdbtune.journal import Event, Journal
from imdbtune.results import Search, Trial
from imdbtune.store import connect
from imdbtune.trial import TrialSpec
from tests.support import Stub, isolate, kill_self, make_config, prepare, stub_trainer

SPACE = {"rnn": ["simple_rnn", "lstm"], "units": {"min": 4, "max": 40}}
TRIALS = 6
NAP_S = 0.05
# Fork out of a process in which the libraries are there already: a driver starts in no time.
FORKS = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Note:
    """Dies before or after the ``number``-th note of this kind (from 1) in its journal."""

    kind: str
    number: int
    before: bool

    def arm(self) -> None:
        append, seen = Journal.append, Counter[str]()

        def deadly(journal: Journal, event: Event) -> None:
            seen[event["event"]] += 1
            now = (event["event"], seen[event["event"]]) == (self.kind, self.number)
            if now and self.before:
                kill_self()
            append(journal, event)
            if now:
                kill_self()

        Journal.append = deadly  # type: ignore[method-assign]


@dataclass(frozen=True)
class After:
    """Dies so many seconds after the first trial has begun."""

    seconds: float

    def arm(self) -> None:
        append, timer = Journal.append, threading.Timer(self.seconds, kill_self)
        timer.daemon = True

        def begins(journal: Journal, event: Event) -> None:
            append(journal, event)
            if event["event"] == "started" and not timer.is_alive():
                timer.start()

        Journal.append = begins  # type: ignore[method-assign]


Death = Note | After


def nap(spec: TrialSpec) -> None:
    time.sleep(NAP_S)


def config_of(kind: str, folder: Path) -> SearchConfig:
    budget = {"kind": kind, "seed": 2, "max_trials": 0 if kind == "hyperband" else TRIALS}
    space = {"rnn": "gru", "units": [4, 5, 6, 7, 8]} if kind == "hyperband" else SPACE
    return make_config(folder, space=space, tuner=budget, training={"epochs": 4})


def drive(folder: Path, kind: str, workers: int, death: Death | None) -> None:
    """What a driver process does: begin the search of ``folder``, or go on with it."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        config = config_of(kind, folder)
        if death:
            death.arm()
        common: dict[str, Any] = {
            "workers": workers,
            "cache": folder / "cache",
            "folder": folder / "runs",
            "trainer": Stub(nap),
        }
        if (folder / "runs").exists():
            api.resume(uri=config.tracking.uri, **common)
        else:
            api.search(config, **common)


def run_driver(folder: Path, kind: str, workers: int, death: Death | None) -> int:
    """Exit status of a driver; -9 if it was killed."""
    process = FORKS.Process(target=drive, args=(folder, kind, workers, death))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@dataclass
class Outcome:
    """A search that has ended, as the journal and MLflow have it."""

    search: Search
    trials: list[Trial]
    events: list[Event]
    killed: int

    def results(self) -> dict[str, Any]:
        done = [trial for trial in self.trials if trial.status == "FINISHED"]
        assert len(done) == len({trial.trial_id for trial in done}), "a trial has finished twice"
        return {t.trial_id: (t.params, t.score, t.metrics["best_val_loss"]) for t in done}

    def asked(self) -> list[tuple[str, Any]]:
        return [(e["trial_id"], e["values"]) for e in self.events if e["event"] == "asked"]

    def told(self) -> dict[str, float]:
        ended = [e for e in self.events if e["event"] == "ended"]
        assert len(ended) == len({e["trial_id"] for e in ended}), "the oracle is told twice"
        return {e["trial_id"]: e["score"] for e in ended}


def outcome_of(folder: Path, kind: str, workers: int, deaths: list[Death]) -> Outcome:
    """Run a search whose driver dies of each of ``deaths``, then to its end."""
    prepare(folder)
    killed = 0
    for death in deaths:
        status = run_driver(folder, kind, workers, death)
        assert status in (0, -9)
        killed += status == -9
    assert run_driver(folder, kind, workers, None) == 0
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    search = results.find_search(client)
    events = Journal(folder / "runs" / search.run_id / "journal.jsonl").read()
    return Outcome(search, results.read_trials(client, search), events, killed)


def moments(seed: int, count: int) -> list[Death]:
    """So early that no driver gets far enough to end the search."""
    clock = random.Random(seed)
    return [After(round(clock.uniform(0.0, 2 * NAP_S), 3)) for _ in range(count)]


DEATHS: dict[str, tuple[str, int, list[Death]]] = {
    "before a note": (
        "random",
        0,
        [Note("started", 2, True), Note("ended", 1, True), Note("asked", 2, True)],
    ),
    "after a note": (
        "hyperband",
        0,
        [Note("asked", 3, False), Note("started", 2, False), Note("ended", 3, False)],
    ),
    "some time": ("random", 0, moments(1, 4)),
    "some time, hyperband": ("hyperband", 0, moments(2, 2)),
    "with a worker": ("random", 1, [Note("ended", 2, True), After(1.5 * NAP_S)]),
}


Pair = tuple[Outcome, Outcome, list[Death]]


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    FORKS.set_forkserver_preload(["imdbtune.api", "keras_tuner", "mlflow", __name__])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    kinds = ("random", "hyperband")
    return {kind: outcome_of(tmp_path_factory.mktemp(kind), kind, 0, []) for kind in kinds}


@pytest.fixture(scope="module", params=list(DEATHS))
def disturbed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    undisturbed: dict[str, Outcome],
) -> Pair:
    """A search that was killed, the same one undisturbed, and the deaths that it had to die."""
    kind, workers, deaths = DEATHS[request.param]
    killed = outcome_of(tmp_path_factory.mktemp("killed"), kind, workers, deaths)
    return killed, undisturbed[kind], deaths


def test_the_drivers_were_killed(disturbed: Pair) -> None:
    killed, _, deaths = disturbed
    assert killed.killed == len(deaths)
    if any(isinstance(death, Note) and death.kind == "started" for death in deaths):
        assert "KILLED" in {trial.status for trial in killed.trials}


def test_trials_and_results_are_those_of_an_undisturbed_search(disturbed: Pair) -> None:
    killed, whole, _ = disturbed
    assert killed.asked() == whole.asked()
    assert killed.results() == whole.results()
    assert killed.told() == whole.told()
    assert set(killed.told()) == {trial_id for trial_id, _ in killed.asked()}


def test_no_run_is_left_open(disturbed: Pair) -> None:
    killed, _, _ = disturbed
    assert killed.search.status == "FINISHED"
    assert tracking.REASON not in killed.search.tags
    assert {trial.status for trial in killed.trials} <= {"FINISHED", "KILLED"}
    for trial in killed.trials:
        assert trial.ended_ms is not None
        expected = {"FINISHED": "", "KILLED": "the search was cut off"}
        assert trial.reason == expected[trial.status]


def test_the_page_of_the_search_shows_the_same_best(disturbed: Pair) -> None:
    killed, whole, _ = disturbed
    assert killed.search.tags["imdbtune.best"] == whole.search.tags["imdbtune.best"]
    names = ("best_val_accuracy", "trials_finished", "trials_failed")
    for name in names:
        assert killed.search.metrics[name] == whole.search.metrics[name]


# Going on without a crash.


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A search of two trials that has ended, and a function that goes on with it."""
    isolate(monkeypatch, tmp_path)
    prepare(tmp_path)
    config = make_config(tmp_path, space=SPACE, tuner={"kind": "random", "max_trials": 2})
    common: dict[str, Any] = {
        "workers": 0,
        "cache": tmp_path / "cache",
        "folder": tmp_path / "runs",
        "trainer": stub_trainer,
    }
    api.search(config, **common)

    def go_on(reference: str | None = None, **overrides: object) -> list[Trial]:
        given = {name.replace("__", "."): value for name, value in overrides.items()}
        found = api.resume(reference, given, uri=config.tracking.uri, **common)
        return results.read_trials(connect(config.tracking.uri), found)

    return go_on


def test_a_search_that_has_ended_stays_as_it_is(ended: Any) -> None:
    assert ended() == ended()
    assert len(ended()) == 2


def test_a_search_that_has_ended_can_be_extended(ended: Any) -> None:
    before = {trial.run_id for trial in ended()}
    after = ended(tuner__max_trials=5)
    assert Counter(trial.status for trial in after) == {"FINISHED": 5}
    assert before < {trial.run_id for trial in after}
    assert sorted(trial.trial_id for trial in after) == [f"000{n}" for n in range(5)]


def test_a_search_goes_on_as_it_was_begun_or_not_at_all(ended: Any) -> None:
    before = ended()
    with pytest.raises(UserError, match=r"tuner\.seed was 0, now 7.*only --max-trials"):
        ended(tuner__seed=7)
    assert ended() == before


def test_a_search_goes_on_only_where_its_journal_is(ended: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"cannot go on here: .* is missing"):
        ended()
