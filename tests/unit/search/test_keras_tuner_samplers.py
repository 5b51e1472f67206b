"""What the samplers rely on in Keras Tuner and scikit-learn."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
from keras_tuner import oracles
from keras_tuner.src.engine import conditions
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from threadpoolctl import threadpool_info

from imdbtune.config.schema import SearchConfig, load_config, parse_config
from imdbtune.search import keras_tuner_samplers
from imdbtune.search.keras_tuner_samplers import initial_points
from imdbtune.search.sampler import Stopped, make_sampler

ORACLES = {
    "RandomSampler": oracles.RandomSearchOracle,
    "GridSampler": oracles.GridSearchOracle,
    "BayesianSampler": oracles.BayesianOptimizationOracle,
    "HyperbandSampler": oracles.HyperbandOracle,
}
PRIVATE = {
    "OracleSampler": {"_seed_state", "_save_trial", "_check_consecutive_failures"},
    "RandomSampler": set(),
    "GridSampler": {"_populate_next"},
    "BayesianSampler": {"_vectorize_trials", "_get_hp_bounds", "_random_state"},
    "HyperbandSampler": {
        *("_brackets", "_current_bracket", "_get_size", "_get_epochs", "_random_trial"),
        *("_increment_bracket_num", "_start_new_bracket", "_max_collisions", "_random_values"),
    },
}


def config_of(kind: str) -> SearchConfig:
    space = {"units": {"min": 1, "max": 300}, "dropout": {"min": 0.0, "max": 0.5}}
    return parse_config({"space": space, "tuner": {"kind": kind, "max_trials": 8}})


def private_names(node: ast.ClassDef) -> set[str]:
    """The private names that a sampler overrides, or uses without defining them itself."""
    attributes = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    fields = {ast.unparse(n.target) for n in node.body if isinstance(n, ast.AnnAssign)}
    own = {n for n in methods | fields if not any(hasattr(o, n) for o in ORACLES.values())}
    return {n for n in (attributes | methods) - own if n.startswith("_") and n != "__init__"}


def test_all_private_parts_that_are_used_are_listed() -> None:
    tree = ast.parse(inspect.getsource(keras_tuner_samplers))
    classes = {n.name: private_names(n) for n in tree.body if isinstance(n, ast.ClassDef)}
    assert classes == PRIVATE


@pytest.mark.parametrize("kind", ["random", "grid", "bayesian", "hyperband"])
def test_keras_tuner_still_has_its_private_parts(kind: str) -> None:
    sampler: type = type(make_sampler(config_of(kind)))
    name = sampler.__name__
    oracle = object.__new__(ORACLES[name])
    sampler.__bases__[1].__init__(oracle, **arguments(kind))  # type: ignore[misc]
    gone = [part for part in PRIVATE["OracleSampler"] | PRIVATE[name] if not hasattr(oracle, part)]
    assert not gone, f"Keras Tuner has changed: {name} needs {gone}"
    assert conditions.Parent("rnn", ["gru"]).is_active({"rnn": "gru"})


def arguments(kind: str) -> dict[str, Any]:
    sampler: Any = make_sampler(config_of(kind))
    found = {"objective": sampler.objective, "hyperparameters": sampler.hyperparameters}
    return {**found, "seed": 1}


# A few points may not determine the length scale of the kernel.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bayesian_sampler_suggests_what_keras_tuner_does_on_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[int] = set()
    fit = GaussianProcessRegressor.fit

    def watched(self: Any, x: Any, y: Any) -> Any:
        if self is sampler.gpr:
            pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
            threads.update(pool["num_threads"] for pool in pools)
        return fit(self, x, y)

    monkeypatch.setattr(GaussianProcessRegressor, "fit", watched)
    sampler: Any = make_sampler(config_of("bayesian"))
    first = sampler.num_initial_points
    plain: Any = oracles.BayesianOptimizationOracle(
        max_trials=8, num_initial_points=first, **arguments("bayesian")
    )
    plain.gpr = clone(sampler.gpr)
    model_based = plain.populate_space
    plain.verbose = 0
    plain.save = plain._save_trial = lambda *trial: None
    for number in range(8):
        suggestion = sampler.ask()
        drawn = {"status": "RUNNING", "values": sampler.initial.design.draw(number)}
        plain.populate_space = model_based if number >= first else lambda _, drawn=drawn: drawn
        expected = plain.create_trial(f"tuner-{number}")
        assert suggestion.values == expected.hyperparameters.values
        score = -abs(suggestion.values["units"] - 77) / 300
        sampler.tell(suggestion.trial_id, score)
        plain.update_trial(expected.trial_id, {plain.objective.name: score})
        expected.status = "COMPLETED"
        plain.end_trial(expected)
    assert first == 3
    assert threads == {1}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scores_of_trials_in_flight_are_imagined_by_a_fit_to_those_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are not 1 standard deviation of a regressor that has seen nothing."""
    fitted: list[tuple[int, float]] = []
    fit = GaussianProcessRegressor.fit

    def watched(self: Any, x: Any, y: Any) -> Any:
        if self is sampler.gpr:
            fitted.append((len(y), max(y)))
        return fit(self, x, y)

    monkeypatch.setattr(GaussianProcessRegressor, "fit", watched)
    sampler: Any = make_sampler(config_of("bayesian"))
    for _ in range(sampler.num_initial_points):
        suggestion = sampler.ask()
        sampler.tell(suggestion.trial_id, 0.88 + suggestion.values["dropout"] / 100)
    sampler.ask()
    sampler.ask()  # while one trial runs
    ended = sampler.num_initial_points
    assert [count for count, _ in fitted] == [ended, ended, ended + 1]
    assert fitted[-1][1] < -0.87  # scores are minimised


@pytest.mark.parametrize(
    ("units", "trials", "expected"),
    [([4, 8], 0, 4), (300, 12, 4), (300, 30, 6), (300, 6, 3), (300, 1000, 6)],
)
def test_a_third_of_a_bayesian_search_is_random_or_three_for_each_dimension(
    units: Any, trials: int, expected: int
) -> None:
    space = {"units": units if isinstance(units, list) else {"min": 1, "max": units}}
    space["dropout"] = {"min": 0.0, "max": 0.5}
    config = parse_config({"space": space, "tuner": {"kind": "bayesian", "max_trials": trials}})
    assert initial_points(config) == expected


@pytest.mark.parametrize("kind", ["random", "bayesian"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_first_trials_try_each_choice(kind: str, seed: int) -> None:
    config = load_config("demo", {"tuner.kind": kind, "tuner.seed": seed})
    sampler = make_sampler(config)
    asked = [sampler.ask() for _ in range(3)]
    assert {each.values["rnn"] for each in asked} == {"simple_rnn", "lstm", "gru"}  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["random", "bayesian"])
def test_a_space_of_one_configuration_has_one_trial(kind: str) -> None:
    sampler = make_sampler(parse_config({"space": {"units": 4}, "tuner": {"kind": kind}}))
    assert sampler.ask().values == {}  # type: ignore[union-attr]
    if kind == "random":
        assert isinstance(sampler.ask(), Stopped)
