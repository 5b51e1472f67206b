"""Optuna's samplers: what they suggest, and how their study comes back."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune.config.extensions import SAMPLERS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import SearchAborted, UserError
from imdbtune.search import optuna_samplers
from imdbtune.search.context import Context
from imdbtune.search.journal import history
from imdbtune.search.optuna_samplers import INITIAL_TRIALS, OptunaSampler
from imdbtune.search.plan import make_plan
from imdbtune.search.sampler import SamplerKind, Stopped, Suggestion, make_sampler
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.driven import KINDS, ORACLES, SIZE, config_of, drive
from tests.support import stub_trainer

STUDIES = [kind for kind in KINDS if kind not in ORACLES]
CONDITIONAL = {
    "rnn": ["simple_rnn", "lstm", "gru"],
    "bidirectional": {"values": [False, True], "when": {"rnn": ["lstm", "gru"]}},
    "units": {"min": 4, "max": 64, "step": 2, "sampling": "log"},
    "dropout": {"min": 0.0, "max": 0.5, "step": 0.1},
    "learning_rate": {"min": 1e-4, "max": 1e-1, "sampling": "log"},
}


def test_nothing_private_of_optuna_is_used() -> None:
    tree = ast.parse(inspect.getsource(optuna_samplers))
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    own = {n.name for c in classes for n in c.body if isinstance(n, ast.FunctionDef)}
    own |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert {name for name in used if name.startswith("_")} <= own | {"__init__"}


@pytest.mark.parametrize("kind", STUDIES)
def test_all_values_are_in_the_space_and_active(kind: str, tmp_path: Path) -> None:
    config = config_of(kind, CONDITIONAL, max_trials=25)
    dimensions = {d.name: d for d in config.space.searched}
    for values in drive(config, tmp_path, slots=2).suggested:
        assert ("bidirectional" in values) == (values["rnn"] != "simple_rnn")
        for name, value in values.items():
            grid = dimensions[name].grid()
            assert 1e-4 <= value <= 1e-1 if grid is None else value in grid
            assert type(value) is type(dimensions[name].typed(0)) or isinstance(value, str | bool)


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("slots", [1, 3])
def test_a_space_is_exhausted_without_repetitions(kind: str, slots: int, tmp_path: Path) -> None:
    driven = drive(config_of(kind, max_trials=50), tmp_path, slots=slots)
    assert len(driven.suggested) == SIZE
    assert set(Counter(map(str, driven.suggested)).values()) == {1}
    assert driven.trials.exhausted


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("slots", [1, 3])
def test_a_restored_study_continues_alike_with_conditions(
    kind: str, slots: int, tmp_path: Path
) -> None:
    config = config_of(kind, CONDITIONAL, max_trials=24, seed=4)
    whole = drive(config, tmp_path / "whole", slots=slots)
    for cut in range(0, len(whole.journal), 5):
        before = whole.journal[:cut]
        again = drive(config, tmp_path / f"cut{cut}", slots=slots, events=before)
        known = [event["values"] for event in before if event["event"] == "asked"]
        assert known + again.suggested == whole.suggested, f"cut after {cut} events"


@pytest.mark.parametrize("kind", STUDIES)
def test_a_restored_study_has_the_same_trials(kind: str, tmp_path: Path) -> None:
    config = config_of(kind, CONDITIONAL, max_trials=15)
    whole = drive(config, tmp_path)
    sampler: Any = make_sampler(config)
    sampler.restore(list(history(whole.journal)))
    assert studied(sampler) == studied(whole.trials.sampler)


def studied(sampler: Any) -> list[tuple[Any, ...]]:
    """The trials that a study's next suggestion depends on."""
    trials = sampler.study.get_trials()
    return [(t.state, t.values, t.params) for t in trials if t.state.name != "FAIL"]


@pytest.mark.parametrize("kind", STUDIES)
def test_a_trial_that_is_not_in_the_space_is_refused(kind: str) -> None:
    sampler = make_sampler(config_of(kind, {"units": [2, 3, 4]}))
    with pytest.raises(SearchAborted, match="trial 0000 comes out differently now"):
        sampler.restore([Suggestion("0000", {"units": 7})])


FRONT = {
    "objective": "val_accuracy,parameter_count",
    "require": "train_seconds<=0.6 and val_accuracy>=0.53",
}
SEVERAL = [kind for kind in STUDIES if SAMPLERS[kind].has_several_objectives]


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("slots", [1, 3])
def test_a_restored_study_of_several_objectives_continues_alike(
    kind: str, slots: int, tmp_path: Path
) -> None:
    config = config_of(kind, CONDITIONAL, max_trials=24, seed=4, **FRONT)
    whole = drive(config, tmp_path / "whole", slots=slots)
    for cut in range(0, len(whole.journal), 5):
        before = whole.journal[:cut]
        again = drive(config, tmp_path / f"cut{cut}", slots=slots, events=before)
        known = [event["values"] for event in before if event["event"] == "asked"]
        assert known + again.suggested == whole.suggested, f"cut after {cut} events"
        assert studied(again.trials.sampler) == studied(whole.trials.sampler)


@pytest.mark.parametrize("kind", SEVERAL)
def test_both_objectives_guide_a_study(kind: str, tmp_path: Path) -> None:
    """The stub's accuracy and its number of parameters both grow with the units."""
    space = {"units": {"min": 1, "max": 300}, "embedding": {"min": 1, "max": 300}}
    config = config_of(kind, space, objective="val_accuracy,parameter_count", max_trials=30)
    study: Any = drive(config, tmp_path).trials.sampler
    directions = [direction.name for direction in study.study.directions]
    assert directions == ["MAXIMIZE", "MINIMIZE"]
    known = [trial for trial in study.study.get_trials() if trial.values]
    assert len(known) == 30
    for trial in known:
        assert trial.values[1] == 100 * trial.params["units"]
        assert trial.values[0] == pytest.approx(0.52 + trial.params["units"] / 1000, abs=0.11)


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_a_missed_requirement_guides_a_sampler(kind: str, tmp_path: Path) -> None:
    """The score pulls to many units, of which only those up to 100 meet the requirement."""
    space = {"units": {"min": 1, "max": 300}, "embedding": {"min": 1, "max": 300}}
    require = {"require": "train_seconds<=100", "max_trials": 40, "seed": 2}
    trainer = Score(lambda params: params.units / 300, seconds=lambda params: params.units)
    free = drive(config_of(kind, space, max_trials=40, seed=2), tmp_path, trainer=trainer)
    bound = drive(config_of(kind, space, **require), tmp_path, trainer=trainer)

    def met(driven: Any) -> int:
        return sum(values["units"] <= 100 for values in driven.suggested[INITIAL_TRIALS:])

    assert met(bound) > 2 * met(free)


def test_a_result_that_is_missing_counts_as_a_failure(tmp_path: Path) -> None:
    sampler: Any = make_sampler(config_of("tpe", objective="val_accuracy,train_seconds"))
    sampler.tell(sampler.ask().trial_id, 0.5, "", {"parameter_count": 9.0})
    assert [trial.state.name for trial in sampler.study.get_trials()] == ["FAIL"]


@dataclass(frozen=True)
class Score:
    """Trains nothing; the score of a trial is a function of its hyperparameters."""

    of: Callable[[TrialParams], float]
    seconds: Callable[[TrialParams], float] = lambda params: 1.0

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        scores, seconds = (self.of(spec.params),), self.seconds(spec.params)
        return replace(stub_trainer(spec, on_epoch), scores=scores, seconds=seconds)


@pytest.mark.parametrize(("objective", "sign"), [("val_accuracy", -1), ("val_loss", 1)])
@pytest.mark.parametrize("kind", STUDIES)
def test_a_search_moves_to_better_values(
    kind: str, objective: str, sign: int, tmp_path: Path
) -> None:
    space = {"units": {"min": 1, "max": 300}, "embedding": {"min": 1, "max": 300}}
    config = config_of(kind, space, objective=objective, max_trials=40, seed=2)
    trainer = Score(lambda params: sign * abs(params.units - 200) / 300)
    driven = drive(config, tmp_path, trainer=trainer)
    distances = [abs(values["units"] - 200) for values in driven.suggested]
    assert sorted(distances[10:])[9] <= 30  # a third of the suggestions; of random ones 5 in 100


def test_tpe_prefers_the_better_cell(tmp_path: Path) -> None:
    space = {"rnn": ["simple_rnn", "lstm", "gru"], "units": {"min": 1, "max": 300}}
    trainer = Score(lambda params: 0.9 if params.rnn == "gru" else 0.5)
    driven = drive(config_of("tpe", space, max_trials=30), tmp_path, trainer=trainer)
    cells = [values["rnn"] for values in driven.suggested]
    assert cells[INITIAL_TRIALS:].count("gru") >= 13
    assert len(set(cells[:INITIAL_TRIALS])) == 3


def test_a_sampler_whose_package_is_missing_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kind = SamplerKind("needs what is not there", OptunaSampler, installed_by=("no_such_package",))
    monkeypatch.setattr(type(SAMPLERS), "__getitem__", lambda self, name: kind)
    config: SearchConfig = config_of("tpe")
    with pytest.raises(UserError, match=r"the sampler tpe needs no_such_package, not installed"):
        make_plan(config, Context(uri=f"sqlite:///{tmp_path}/mlflow.db"))


def test_a_finished_space_stays_finished(tmp_path: Path) -> None:
    config = config_of("tpe", {"units": [2, 3]}, max_trials=10)
    driven = drive(config, tmp_path)
    assert driven.trials.sampler.ask() == Stopped(space_exhausted=True)
