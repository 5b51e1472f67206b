from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams, check_value
from imdbtune.config.search_space import Dimension, SearchSpace
from imdbtune.config.space_parser import parse_flag, parse_space
from imdbtune.errors import UserError
from imdbtune.search.keras_tuner_samplers import keras_tuner_space

CELLS = ("simple_rnn", "lstm", "gru")


@pytest.mark.parametrize(
    ("name", "text", "grid"),
    [
        ("units", "32", (32,)),
        ("units", "16,32, 64", (16, 32, 64)),
        ("units", "1e3", (1000,)),
        ("vocabulary", "10_000", (10_000,)),
        ("depth", "1-3", (1, 2, 3)),
        ("units", "16-64:16", (16, 32, 48, 64)),
        ("units", "16-60:16", (16, 32, 48)),
        ("units", "16-128:x2", (16, 32, 64, 128)),
        ("units", "16-128:X2", (16, 32, 64, 128)),
        ("units", "3-2048:x3", (3, 9, 27, 81, 243, 729)),
        ("units", "16-18:log", (16, 17, 18)),
        ("dropout", "0,0.25", (0.0, 0.25)),
        ("dropout", "0-0.5:0.1", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)),
        ("learning_rate", "1e-4-1e-1:x10", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("learning_rate", "1e-4-1e-2", None),
        ("learning_rate", "1e-4-1e-2:log", None),
        ("rnn", "lstm,gru", ("lstm", "gru")),
        ("bidirectional", "False,true", (False, True)),
    ],
)
def test_a_flag_stands_for_these_values(
    name: str, text: str, grid: tuple[object, ...] | None
) -> None:
    found = parse_flag(name, text).grid()
    assert found == grid
    assert [type(v) for v in found or ()] == [type(v) for v in grid or ()]


@pytest.mark.parametrize("how", ["log", "LOG", "Log"])
def test_a_range_can_be_sampled_log_uniformly(how: str) -> None:
    dimension = parse_flag("learning_rate", f"1e-4-1e-2:{how}")
    assert dimension == Dimension("learning_rate", low=1e-4, high=1e-2, sampling="log")


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (32, "32"),
        ("16-128:x2", "16-128:x2"),
        ([16, 32], "16,32"),
        ({"values": [16, 32]}, "16,32"),
        ({"values": 16}, "16"),
        ({"min": 16, "max": 128}, "16-128"),
        ({"min": "16", "max": 128.0, "step": 16}, "16-128:16"),
        ({"min": 16, "max": 128, "sampling": "log"}, "16-128:log"),
        ({"min": 16, "max": 128, "sampling": "log", "step": 2}, "16-128:x2"),
    ],
)
def test_toml_and_flags_give_the_same_dimension(value: object, flag: str) -> None:
    assert parse_space({"units": value}).dimensions == (parse_flag("units", flag),)


SPACES: dict[str, dict[str, Any]] = {
    "empty": {},
    "constants": {"units": 32, "rnn": "gru", "bidirectional": True},
    "product": {"units": "16,32", "rnn": ["lstm", "gru"], "depth": 2},
    "doubling": {"units": "16-128:x2", "bidirectional": [False, True]},
    "float steps": {"dropout": "0-0.5:0.1", "word_dropout": "0-0.3:0.1"},
    "float factors": {"learning_rate": "1e-4-1e-1:x10"},
    "condition": {"rnn": list(CELLS), "units": {"values": [8, 16], "when": {"rnn": ["gru"]}}},
    "condition on a constant": {"rnn": "gru", "units": {"values": [8, 16], "when": {"rnn": "gru"}}},
    "condition on true": {
        "bidirectional": [False, True],
        "units": {"min": 8, "max": 10, "when": {"bidirectional": True}},
    },
    "child named first": {
        "units": {"min": 8, "max": 12, "step": 2, "when": {"depth": [2, 3]}},
        "depth": "1-3",
        "optimizer": ["adam", "sgd"],
    },
    "two conditions": {
        "rnn": ["lstm", "gru"],
        "depth": "1-2",
        "units": {"values": [8, 16], "when": {"depth": 2, "rnn": "gru"}},
    },
    "chain": {
        "rnn": list(CELLS),
        "pooling": {"values": ["last", "max"], "when": {"rnn": "gru"}},
        "dropout": {"values": [0.1, 0.2, 0.3], "when": {"pooling": "max"}},
    },
}
SIZES = (1, 1, 4, 8, 24, 4, 4, 2, 4, 14, 5, 6)


def searched_exhaustively(space: SearchSpace, folder: Path) -> list[TrialParams]:
    """All that Keras Tuner's grid search tries."""
    oracle = keras_tuner.oracles.GridSearchOracle(
        objective=keras_tuner.Objective("score", "max"),
        max_trials=1000,
        hyperparameters=keras_tuner_space(space),
        tune_new_entries=False,
        allow_new_entries=False,
    )
    oracle.verbose = 0
    oracle._set_project_dir(folder, "search")
    tried = []
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        tried.append(space.params(trial.hyperparameters.values))
        oracle.update_trial(trial.trial_id, {"score": 0.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return tried


@pytest.mark.parametrize(("name", "size"), list(zip(SPACES, SIZES, strict=True)))
def test_a_grid_search_tries_exactly_what_the_space_counts(
    name: str, size: int, tmp_path: Path
) -> None:
    space = parse_space(SPACES[name])
    tried = searched_exhaustively(space, tmp_path) if space.searched else [space.single()]
    assert space.size() == size
    assert len(tried) == len(set(tried)) == size


def test_conditions_keep_the_default_where_they_do_not_hold(tmp_path: Path) -> None:
    tried = searched_exhaustively(parse_space(SPACES["two conditions"]), tmp_path)
    default = TrialParams().units
    assert {(p.rnn, p.depth, p.units) for p in tried} == {
        ("lstm", 1, default),
        ("lstm", 2, default),
        ("gru", 1, default),
        ("gru", 2, 8),
        ("gru", 2, 16),
    }


def test_a_large_space_is_counted_without_enumerating_it() -> None:
    when = {"vocabulary": [5, 6], "units": 7}
    table = {"vocabulary": "4-100000", "units": "1-2048", "rnn": {"values": CELLS, "when": when}}
    pairs = (100_000 - 3) * 2048
    assert parse_space(table).size() == pairs + 2 * (len(CELLS) - 1)


def test_a_continuous_range_has_no_size() -> None:
    assert parse_space({"learning_rate": "1e-4-1e-2:log", "units": "16,32"}).size() is None


@pytest.mark.parametrize("name", SPACES)
def test_a_space_round_trips_through_toml(name: str) -> None:
    space = parse_space(SPACES[name])
    assert parse_space(space.as_toml()) == space


@pytest.mark.parametrize("flag", ["1e-4-1e-2", "1e-4-1e-2:log", "1e-4-1e-2:x10", "1-2:0.5"])
def test_ranges_round_trip_through_toml(flag: str) -> None:
    space = parse_space({"learning_rate": flag})
    assert parse_space(space.as_toml()) == space


def test_only_a_space_of_constants_is_a_single_configuration() -> None:
    assert parse_space({"units": 8}).single() == TrialParams(units=8)
    assert parse_space({"units": [8, 16]}).single() is None


def test_suggested_values_and_constants_make_a_configuration() -> None:
    space = parse_space({"rnn": "gru", "units": "16-64:16"})
    chosen = {"units": 48, "tuner/epochs": 3, "tuner/trial_id": "0007"}
    assert space.params(chosen) == TrialParams(rnn="gru", units=48)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"units": [16, 32]}, "16, 32"),
        ({"bidirectional": [False, True]}, "false, true"),
        ({"units": "16-128"}, "16 to 128"),
        ({"units": "16-128:16"}, "16 to 128 (by 16)"),
        ({"units": "16-128:x2"}, "16 to 128 (times 2)"),
        ({"learning_rate": "1e-4-1e-2:log"}, "0.0001 to 0.01 (log)"),
        (SPACES["condition on true"], "8 to 10, when bidirectional is true"),
        (SPACES["child named first"], "8 to 12 (by 2), when depth is 2 or 3"),
    ],
)
def test_a_dimension_is_described_in_one_line(space: dict[str, Any], words: str) -> None:
    dimensions = {d.name: d for d in parse_space(space).dimensions}
    assert dimensions.get("units", *list(dimensions.values())[:1]).in_words() == words


@pytest.mark.parametrize(
    ("params", "label"),
    [
        (TrialParams(), "lstm-d1-u32-L500"),
        (TrialParams(rnn="gru", depth=2, units=64, maxlen=200), "gru-d2-u64-L200"),
        (TrialParams(bidirectional=True, pooling="max_mean"), "lstm-d1-u32-L500-bi-max_mean"),
    ],
)
def test_the_label_lists_the_main_hyperparameters(params: TrialParams, label: str) -> None:
    assert params.label == label


def test_parameters_are_restored_from_the_text_that_mlflow_stores() -> None:
    params = TrialParams(
        "gru", 2, 8, 20, True, "max", 99, 4, 0.25, 0.1, 16, "adamw", 1e-4,
        512, 0.3, True, True, 0.01, 0.99, "cosine", 0.1, 1.0, 100, 0.5, True, 0.3, "ppmi",
    )  # fmt: skip
    assert params.as_dict().keys() == PARAMETERS.keys()
    assert all(v != PARAMETERS[k].default for k, v in params.as_dict().items())
    stored = {name: str(value) for name, value in params.as_dict().items()}
    assert TrialParams.from_values(stored) == params


UNITS = ("units", "a whole number from 1 to 2048")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("units", 0, UNITS),
        ("units", 2049, UNITS),
        ("units", 16.5, UNITS),
        ("units", True, UNITS),
        ("units", None, UNITS),
        ("units", "", UNITS),
        ("units", "nan", UNITS),
        pytest.param("units", 2**20000, UNITS, id="a huge number"),
        pytest.param("units", "1" * 5000, UNITS, id="a long number"),
        ("units", datetime.date(2020, 1, 1), ("2020", *UNITS)),
        ("dropout", 1.0, ("1.0", "a number from 0 to 0.95")),
        ("dropout", "inf", ("'inf'", "a number from 0 to 0.95")),
        ("bidirectional", 1, ("1", "true or false")),
        ("bidirectional", "yes", ("'yes'", "true or false")),
        ("rnn", "LSTM", ("'LSTM'", *CELLS)),
        ("rnn", 3, ("3", *CELLS)),
        ("unit", 16, ("'unit'", "Did you mean 'units'?", "learning_rate")),
    ],
)
def test_the_error_for_a_wrong_value_says_what_is_allowed(
    name: str, value: object, expected: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        check_value(name, value)
    says(caught, *expected)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("units", "", ("''", *UNITS)),
        ("units", "16,,32", ("''", *UNITS)),
        ("units", "16,16", ("'16'", "twice")),
        ("learning_rate", "0.001,1e-3", ("'1e-3'", "twice")),
        ("units", "-5", ("'-5'", *UNITS)),
        ("units", "16–128", ("'16–128'", *UNITS)),
        ("units", "16 to 128", ("'16 to 128'", *UNITS)),
        ("units", "16-128:", ("'16-128:'", *UNITS)),
        ("units", "16-128:log2", ("'16-128:log2'", *UNITS)),
        ("units", "1-5000", ("'5000'", *UNITS)),
        ("units", "128-16", ("128", "16", "min must be below max")),
        ("units", "16-16", ("16", "min must be below max")),
        ("units", "16-128:0", ("'0'", "above 0, at most 112")),
        ("units", "16-128:500", ("'500'", "above 0, at most 112")),
        ("units", "16-128:x1", ("'1'", "above 1")),
        ("units", "16-128:x1.5", ("'1.5'", "a whole number")),
        ("dropout", "0-0.5:log", ("0 to 0.5", "above 0")),
        ("rnn", "lstm-gru", ("'lstm-gru'", *CELLS)),
        ("bidirectional", "0-1", ("'0-1'", "true or false")),
        ("layers", "3", ("'layers'", "depth")),
    ],
)
def test_the_error_for_a_wrong_flag_says_what_is_allowed(
    name: str, text: str, expected: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        parse_flag(name, text)
    says(caught, *expected)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"layers": 3}, ("'layers'", "depth")),
        ({"units": []}, ("[]", *UNITS)),
        ({"units": [[16]]}, ("[16]", *UNITS)),
        ({"units": [16, "16"]}, ("'16'", "twice")),
        ({"units": {}}, ("{}", "both min and max")),
        ({"units": {"min": 16}}, ("'min': 16", "both min and max")),
        ({"units": {"min": "64\n", "max": 16}}, ("64", "16", "min must be below max")),
        ({"units": {"values": [16], "min": 3}}, ("units", "values", "range", "exclusive")),
        ({"units": {"maximum": 3}}, ("'maximum'", "min, max, step", "Did you mean 'max'?")),
        ({"units": {"min": 1, "max": 3, "step": True}}, ("True", "a whole number above 0")),
        ({"units": {"min": 1, "max": 3, "step": "x2"}}, ("'x2'", "a whole number above 0")),
        ({"units": {"min": 1, "max": 3, "sampling": "reverse_log"}}, ("reverse_log", "linear")),
        ({"units": {"min": 1, "max": 3, "sampling": ["log"]}}, ("['log']", "linear, log")),
        ({"rnn": {"min": 1, "max": 3}}, ("rnn", *CELLS)),
        ({"units": {"values": [8], "when": "rnn"}}, ("'rnn'", "when = {")),
        ({"units": {"values": [8], "when": []}}, ("[]", "when = {")),
        ({"units": {"values": [8], "when": {"layers": 1}}}, ("'layers'", "depth")),
        ({"units": {"values": [8], "when": {"rnn": "gru"}}}, ("rnn", "not in the space", "lstm")),
        ({"rnn": "lstm", "units": {"values": [8], "when": {"rnn": "tcn"}}}, ("'tcn'", *CELLS)),
        ({"rnn": "lstm", "units": {"values": [8], "when": {"rnn": "gru"}}}, ("gru", "never")),
        ({"rnn": "lstm", "units": {"values": [8], "when": {"rnn": []}}}, ("units", "rnn")),
        ({"depth": "1-2", "units": {"values": [8], "when": {"depth": 3}}}, ("3", "1 to 2")),
        ({"dropout": "0-0.5", "units": {"values": [8], "when": {"dropout": 0.1}}}, ("continuous",)),
        ({"units": {"values": [8, 9], "when": {"units": 8}}}, ("units -> units", "cycle")),
        (
            {
                "units": {"values": [8, 9], "when": {"depth": 1}},
                "depth": {"values": [1, 2], "when": {"units": 8}},
            },
            ("units -> depth -> units", "cycle"),
        ),
    ],
)
def test_the_error_for_a_wrong_space_says_what_is_wrong(
    table: dict[str, Any], expected: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        parse_space(table)
    says(caught, *expected)


def says(caught: pytest.ExceptionInfo[UserError], *expected: str) -> None:
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    assert len(message) < 400
    assert [text for text in expected if text not in message] == []


NUMBERS = st.integers(-3, 5000).map(str) | st.floats(allow_nan=True).map(repr)


@given(
    st.sampled_from(sorted(PARAMETERS)), st.lists(NUMBERS | st.sampled_from("-:,xlog "), max_size=8)
)
def test_of_any_text_a_dimension_is_made_or_it_is_refused_in_a_line(
    name: str, parts: list[str]
) -> None:
    """And a dimension survives the way through TOML."""
    dimensions, refused = [], ""
    try:
        dimensions.append(parse_flag(name, "".join(parts)))
    except UserError as error:
        refused = str(error)
    assert refused.isprintable()
    space = SearchSpace(tuple(dimensions))
    assert parse_space(space.as_toml()) == space
