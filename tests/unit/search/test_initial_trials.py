"""Configurations to try first, and the condition that all have to meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.errors import UserError
from imdbtune.search.constraint import Constraint
from imdbtune.search.initial_trials import InitialTrials, check_initial_trials
from tests.driven import config_of, drive

SPACE = {
    "rnn": ["simple_rnn", "lstm", "gru"],
    "bidirectional": {"values": [False, True], "when": {"rnn": ["lstm", "gru"]}},
    "units": {"min": 4, "max": 64, "step": 4},
    "learning_rate": {"min": 1e-4, "max": 1e-1, "sampling": "log"},
    "depth": 2,
}
KINDS = ["random", "bayesian", "tpe", "nsga2"]
# Enough for some that follow the random ones; each of bayesian takes half a second.
TRIALS = {**dict.fromkeys(KINDS, 20), "bayesian": 5}


def config(**tuner: Any) -> SearchConfig:
    return parse_config({"space": SPACE, "tuner": {"kind": "tpe", **tuner}})


def test_what_is_given_is_tried_and_the_rest_is_drawn() -> None:
    initial = InitialTrials(config(tries="rnn=gru units=64; learning_rate=0.01 depth=2"))
    first, second, third = (initial._draw(number) for number in range(3))
    assert first is not None
    assert second is not None
    assert (first["rnn"], first["units"]) == ("gru", 64)
    assert set(first) == {"rnn", "bidirectional", "units", "learning_rate"}
    assert second["learning_rate"] == 0.01
    assert third == initial.design.draw(0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_begins_with_them_in_order(kind: str, tmp_path: Path) -> None:
    tries = "; ".join(f"rnn=gru units={units}" for units in (64, 4, 32, 8, 16, 12, 20, 24))
    driven = drive(config_of(kind, SPACE, tries=tries, max_trials=10), tmp_path)
    assert [v["units"] for v in driven.suggested[:8]] == [64, 4, 32, 8, 16, 12, 20, 24]
    assert {v["rnn"] for v in driven.suggested[:8]} == {"gru"}


def test_tables_in_a_file_are_the_same() -> None:
    table = [{"rnn": "gru", "units": 64}, {"learning_rate": 0.01}]
    parsed = parse_config({"space": SPACE, "tuner": {"kind": "tpe", "try": table}})
    assert parsed.tuner.tries == "rnn=gru units=64; learning_rate=0.01"
    assert parse_config(parsed.as_dict()) == parsed


@pytest.mark.parametrize(
    ("tries", "reason"),
    [
        ("rnn=gru_v1", "rnn = gru_v1 of --try is not in the search space, where it is simple_rnn,"),
        ("units=65", r"units = 65 of --try is not in the search space, where it is 4 to 64 \(by 4"),
        ("units=6", "units = 6 of --try is not in the search space"),
        ("learning_rate=1", "learning_rate = 1.0 of --try is not in the search space"),
        ("rnn=simple_rnn bidirectional=true", "where it is false in such a trial"),
        ("depth=1", "depth = 1 of --try is not in the search space, where it is 2 in such a trial"),
        ("maxlen=100", "maxlen = 100 of --try is not in the search space, where it is 500"),
        ("cells=3", "hyperparameter 'cells' is not known"),
        ("units", "'units' in --try 'units' is not NAME=VALUE"),
        ("units=many", "units = 'many' is not allowed"),
    ],
)
def test_what_is_not_in_the_space_is_refused(tries: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        check_initial_trials(config(tries=tries))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [1, 2])
def test_no_trial_violates_the_constraint(kind: str, slots: int, tmp_path: Path) -> None:
    require = "(units>=16 or rnn=simple_rnn) and parameter_count<=325000"
    driven = drive(
        config_of(kind, SPACE, require=require, max_trials=TRIALS[kind]), tmp_path, slots=slots
    )
    constraint = Constraint.of(config(require=require))
    assert len(driven.suggested) == TRIALS[kind]
    assert all(constraint.allows(spec.params) for spec in driven.executor.specs)


@pytest.mark.parametrize("slots", [1, 3])
def test_a_grid_leaves_out_what_is_refused(slots: int, tmp_path: Path) -> None:
    space = {"rnn": ["simple_rnn", "lstm", "gru"], "units": [2, 4, 8, 16]}
    require = "units>=8 and rnn in (lstm,gru)"
    driven = drive(config_of("grid", space, require=require), tmp_path, slots=slots)
    found = sorted((values["rnn"], values["units"]) for values in driven.suggested)
    assert found == [("gru", 8), ("gru", 16), ("lstm", 8), ("lstm", 16)]


def test_hyperband_fills_its_rounds_with_what_is_allowed(tmp_path: Path) -> None:
    space = {"units": {"min": 1, "max": 300}}
    free = drive(config_of("hyperband", space), tmp_path / "free")
    bound = drive(config_of("hyperband", space, require="units>150"), tmp_path / "bound")
    assert min(values["units"] for values in free.suggested) <= 150
    assert min(values["units"] for values in bound.suggested) > 150
    assert len(bound.suggested) == len(free.suggested)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_mixed_condition_the_known_part_is_heeded(kind: str, tmp_path: Path) -> None:
    require = "units>=16 and (train_seconds<=60 or val_loss<0.3)"
    driven = drive(config_of(kind, SPACE, require=require, max_trials=TRIALS[kind]), tmp_path)
    assert len(driven.suggested) == TRIALS[kind]
    assert min(values["units"] for values in driven.suggested) >= 16


def test_a_finite_space_ends_with_what_is_allowed(tmp_path: Path) -> None:
    space = {"rnn": ["lstm", "gru"], "units": [2, 4, 8]}
    driven = drive(config_of("tpe", space, require="units>2", max_trials=20), tmp_path)
    found = sorted((values["rnn"], values["units"]) for values in driven.suggested)
    assert found == [("gru", 4), ("gru", 8), ("lstm", 4), ("lstm", 8)]


@pytest.mark.parametrize("space", [SPACE, {"units": [2, 4]}])
def test_an_empty_space_is_refused_with_the_number_of_refusals(space: dict[str, Any]) -> None:
    empty = parse_config({"space": space, "tuner": {"kind": "tpe", "require": "units>64"}})
    refused = "10,000" if "rnn" in space else "2"
    with pytest.raises(UserError, match=f"space is empty: .* refuses all of the {refused} config"):
        check_initial_trials(empty)


@pytest.mark.parametrize("column", ["best_val_accuracy", "best_epoch", "name"])
def test_what_is_no_result_is_refused(column: str) -> None:
    with pytest.raises(UserError, match=f"column '{column}' is not known; allowed: rnn, depth"):
        check_initial_trials(config(require=f"{column}<3"))


@pytest.mark.parametrize("kind", ["grid", "hyperband"])
def test_samplers_without_initial_trials_refuse_them(kind: str) -> None:
    with pytest.raises(UserError, match=f"has no effect with the sampler {kind}"):
        parse_config({"tuner": {"kind": kind, "tries": "units=4"}})
