"""Searches whose driver is killed again and again, and which come out as if nothing had been.

The ordinary run kills at moments that are always the same. With ``-m fuzz`` it kills more often,
each time at other moments; ``IMDBTUNE_TEST_SEED`` brings those of an earlier run back, which has
printed it.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.errors import UserError
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Trial
from tests.killing import (
    SPACES,
    AtWrite,
    Death,
    Outcome,
    WorkerDies,
    outcome_of,
    random_death,
)
from tests.support import draw_nothing, isolate, make_config, prepare, stub_trainer

LOG = logging.getLogger(__name__)
SEED = int(os.environ.get("IMDBTUNE_TEST_SEED") or random.SystemRandom().randrange(10**6))
SPACE = SPACES["random"][0]
# Pruning does not depend on the sampler; test_driver.py has it with all of them.
PRUNED = ["random with asha", "tpe with asha"]
KINDS = [*SPACES, *PRUNED, "workers"]
REASONS = {"the driver process died", "the worker process died"}


@dataclass
class Case:
    """Searches of one kind that were killed, and the same one undisturbed."""

    kind: str
    seed: int
    whole: Outcome
    killed: list[Outcome]
    deaths: list[list[Death]]

    def log(self) -> None:
        LOG.warning("IMDBTUNE_TEST_SEED=%s, %s: %s", self.seed, self.kind, self.deaths)


@dataclass(frozen=True)
class Plan:
    """How often a search of which kind is killed."""

    kind: str
    kills: int = 3
    seed: int = 1

    def __str__(self) -> str:
        return self.kind if self.seed == 1 else f"{self.kind}, often"


OFTEN = [Plan(kind, 13, SEED) for kind in KINDS]


def group_of(kind: str) -> list[pytest.MarkDecorator]:
    """All tests of a kind use the same searches."""
    return [pytest.mark.xdist_group(f"kills {kind}")]


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(Plan(kind), marks=group_of(kind)) for kind in KINDS),
        *(pytest.param(often, marks=[*group_of(often.kind), pytest.mark.fuzz]) for often in OFTEN),
    ],
    ids=str,
)
def searches(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    undisturbed: Callable[[str], Outcome],
) -> Case:
    plan: Plan = request.param
    rng = random.Random(f"{plan.seed} {plan.kind}")
    workers, kills = (2, 1) if plan.kind == "workers" else (0, plan.kills)
    kind = "random" if workers else plan.kind
    case = Case(kind, plan.seed, undisturbed(kind), [], [])
    while sum(outcome.killed for outcome in case.killed) < kills:
        deaths = [random_death(rng) for _ in range(kills - sum(o.killed for o in case.killed))]
        if workers:
            deaths = [AtWrite(rng.randint(14, 24), "after"), WorkerDies(rng.randint(2, 4))]
        case.deaths.append(deaths)
        case.log()
        folder = tmp_path_factory.mktemp("killed")
        case.killed.append(outcome_of(folder, kind, workers, deaths))
    return case


@pytest.fixture
def case(searches: Case) -> Case:
    searches.log()  # each test that fails shows it
    return searches


def test_trials_and_results_are_those_of_an_undisturbed_search(case: Case) -> None:
    for killed in case.killed:
        assert killed.asked() == case.whole.asked()
        assert killed.told() == case.whole.told()
        assert killed.finished() == case.whole.finished()
        assert set(killed.told()) == {trial_id for trial_id, _ in killed.asked()}


def test_no_run_is_left_open(case: Case) -> None:
    for killed in case.killed:
        assert set(killed.statuses) <= {"FINISHED", "KILLED"}
        assert killed.search.status == "FINISHED"
        assert mlflow_names.REASON not in killed.search.tags
        assert len(killed.searches) == 1
        for trial in killed.trials:
            assert trial.ended_ms is not None
            assert trial.has_result or trial.reason in REASONS


def test_pruned_trials_are_pruned_at_the_same_epoch(case: Case) -> None:
    """They are among the results that are compared above; here, that there are some."""
    for outcome in (case.whole, *case.killed):
        pruned = [trial for trial in outcome.trials if trial.state == "PRUNED"]
        assert bool(pruned) == ("with" in case.kind)
        assert {trial.status for trial in pruned} <= {"KILLED"}
        reasons = {trial.trial_id: trial.reason for trial in pruned}
        told = {e["trial_id"]: e["reason"] for e in outcome.events if e["event"] == "ended"}
        assert reasons == {trial_id: reason for trial_id, reason in told.items() if reason}


def test_the_page_of_the_search_shows_the_same_best(case: Case) -> None:
    for killed in case.killed:
        whole = case.whole.search
        assert killed.search.tags["imdbtune.best"] == whole.tags["imdbtune.best"]
        for name in ("best_val_accuracy", "trials_finished", "trials_failed"):
            assert killed.search.metrics[name] == whole.metrics[name]


# Going on without a crash.


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A search of two trials that has ended, and a function that goes on with it."""
    isolate(monkeypatch, tmp_path)
    draw_nothing(monkeypatch)
    prepare(tmp_path)
    config = make_config(tmp_path, space=SPACE, tuner={"kind": "random", "max_trials": 2})
    common: dict[str, Any] = {
        "workers": 0,
        "cache": tmp_path / "cache",
        "folder": tmp_path / "runs",
        "trainer": stub_trainer,
    }
    api.search(config, api.Context(**common))

    def go_on(reference: str | None = None, **overrides: object) -> list[Trial]:
        given = {name.replace("__", "."): value for name, value in overrides.items()}
        found = api.resume(reference, given, api.Context(uri=config.tracking.uri, **common))
        return reader.read_trials(connect(config.tracking.uri), found)

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
    with pytest.raises(UserError, match=r"space\.rnn .* now 'gru'.* or start a new search; with"):
        ended(space__rnn="gru")
    assert ended() == before


def test_a_search_goes_on_only_where_its_journal_is(ended: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"cannot be resumed here: .* is missing"):
        ended()
