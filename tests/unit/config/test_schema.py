from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imdbtune.config.schema import SearchConfig, bundled_workflows, load_config, parse_config
from imdbtune.errors import UserError

FULL = """
name = "cells"
about = "Which cell?"

[data]
source = "demo"
reviews = 500

[space]
rnn = ["lstm", "gru"]
units = "16-64:x2"
depth = { min = 1, max = 3, when = { rnn = "gru" } }

[tuner]
kind = "grid"
max_trials = 30
max_minutes = 1.5
seed = 7

[training]
epochs = 3
batching = "padded"

[tracking]
experiment = "cells"
keep_models = "best"
"""

Write = Callable[[str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and returns its path."""

    def write_file(content: str | bytes) -> str:
        path = tmp_path / "my_search.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def test_a_file_becomes_a_configuration(write: Write) -> None:
    config = load_config(write(FULL))
    assert (config.name, config.about) == ("cells", "Which cell?")
    assert (config.data.source, config.data.reviews) == ("demo", 500)
    assert config.space.size() == 3 + 3 * 3
    assert (config.tuner.kind, config.tuner.max_trials, config.tuner.seed) == ("grid", 30, 7)
    assert (config.tuner.max_minutes, config.tuner.objective) == (1.5, "val_accuracy")
    assert (config.training.epochs, config.training.batching) == (3, "padded")
    assert (config.tracking.experiment, config.tracking.keep_models) == ("cells", "best")


def test_missing_keys_have_defaults_and_the_name_is_the_stem_of_the_file(
    write: Write,
) -> None:
    assert load_config(write("")) == SearchConfig(name="my_search")


@pytest.mark.parametrize("kept", ["all", "best", "3", 3])
def test_keep_models_takes_a_word_or_a_number(kept: str | int) -> None:
    assert parse_config({"tracking": {"keep_models": kept}}).tracking.keep_models == str(kept)


def test_overrides_replace_the_file_and_are_parsed_like_flags(write: Write) -> None:
    overrides = {"name": "mine", "tuner.seed": "3", "space.units": "8,16", "data.reviews": 0}
    config = load_config(write(FULL), overrides)
    assert (config.name, config.tuner.seed, config.data.reviews) == ("mine", 3, 0)
    assert {d.name: d for d in config.space.dimensions}["units"].grid() == (8, 16)
    assert (config.tuner.kind, config.about) == ("grid", "Which cell?")


def test_a_sampler_that_excludes_pruners_drops_that_of_the_file(write: Write) -> None:
    path = write("[tuner]\nkind = 'tpe'\nprune = 'median'")
    assert load_config(path, {"tuner.kind": "random"}).tuner.prune == "median"
    assert load_config(path, {"tuner.kind": "hyperband"}).tuner.prune == "none"
    with pytest.raises(UserError, match="not possible with the sampler hyperband"):
        load_config(path, {"tuner.kind": "hyperband", "tuner.prune": "asha"})
    with pytest.raises(UserError, match="is not a section"):
        parse_config({"tuner": 3}, {"tuner.kind": "hyperband"})


def test_overrides_leave_the_table_as_it_was() -> None:
    table = {"tuner": {"seed": 1}}
    assert parse_config(table, {"tuner.seed": 2, "data.reviews": 3}).tuner.seed == 2
    assert table == {"tuner": {"seed": 1}}


def test_a_configuration_round_trips_through_its_dict(write: Write) -> None:
    config = load_config(write(FULL))
    assert parse_config(config.as_dict()) == config
    assert parse_config(SearchConfig().as_dict()) == SearchConfig()


@pytest.mark.parametrize("workflow", sorted(bundled_workflows()))
def test_each_bundled_workflow_can_be_named(workflow: str) -> None:
    config = load_config(workflow)
    assert parse_config(config.as_dict()).digest == config.digest
    assert config.about


def test_without_a_file_it_is_the_default_workflow() -> None:
    assert load_config(None) == load_config("default")


def test_flags_override_the_default_workflow() -> None:
    start, config = load_config(None), load_config(None, {"space.rnn": "gru", "space.crop": "50"})
    assert config.space.constants["rnn"] == "gru"
    assert config.space.constants["crop"] == 50
    assert config.space.size() == (start.space.size() or 0) / 3
    assert (config.name, config.tuner, config.training) == (start.name, start.tuner, start.training)


def test_with_none_the_flags_are_the_whole_space() -> None:
    config = load_config("none", {"space.rnn": "gru", "tuner.seed": "3"})
    assert config == parse_config({"space": {"rnn": "gru"}, "tuner": {"seed": 3}})


CONDITIONAL = """
[space]
rnn = ["simple_rnn", "lstm", "gru"]
units = { values = [8, 16], when = { rnn = ["lstm", "gru"] } }
dropout = { values = [0.0, 0.5], when = { units = 16 } }
"""


@pytest.mark.parametrize(
    ("overrides", "words", "size"),
    [
        (
            {},
            {"units": "8, 16, when rnn is lstm or gru", "dropout": "0.0, 0.5, when units is 16"},
            7,
        ),
        ({"rnn": "gru"}, {"units": "8, 16", "dropout": "0.0, 0.5, when units is 16"}, 3),
        (
            {"rnn": "gru,simple_rnn"},
            {"units": "8, 16, when rnn is gru", "dropout": "0.0, 0.5, when units is 16"},
            4,
        ),
        ({"rnn": "simple_rnn"}, {}, 1),
        ({"units": "4"}, {"units": "4"}, 3),
        ({"units": "16,32"}, {"units": "16, 32", "dropout": "0.0, 0.5, when units is 16"}, 9),
        ({"rnn": "simple_rnn", "dropout": "0,0.5"}, {"dropout": "0.0, 0.5"}, 2),
    ],
    ids=str,
)
def test_conditions_on_what_a_flag_sets_keep_the_values_that_are_left(
    overrides: dict[str, str], words: dict[str, str], size: int, write: Write
) -> None:
    space = load_config(
        write(CONDITIONAL), {f"space.{name}": value for name, value in overrides.items()}
    ).space
    assert {d.name: d.in_words() for d in space.dimensions if d.name != "rnn"} == words
    assert space.size() == size


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        ({"name": "other", "about": "else"}, True),
        ({"tuner.max_trials": 99, "tuner.max_minutes": 60}, True),
        ({"tracking.experiment": "other", "tracking.keep_models": "all"}, True),
        ({"tuner.seed": "7"}, True),
        ({"tuner.seed": 8}, False),
        ({"tuner.kind": "random"}, False),
        ({"tuner.executions": 2}, False),
        ({"tuner.folds": 0}, True),
        ({"space.units": "16-64:16"}, False),
        ({"data.reviews": 400}, False),
        ({"training.epochs": 4}, False),
    ],
)
def test_the_digest_depends_only_on_what_determines_the_trials(
    overrides: dict[str, object], same: bool, write: Write
) -> None:
    path = write(FULL)
    assert (load_config(path, overrides).digest == load_config(path).digest) is same


TOP_LEVEL = "name, about, space, data, tuner, training, tracking"
SEED = "seed is a whole number from 0 to 2"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[tuner]\nsed = 1", ("[tuner]", "'sed'", "Did you mean 'seed'?", "max_trials")),
        ("[tunr]\nseed = 1", ("'tunr'", TOP_LEVEL, "Did you mean 'tuner'?")),
        ("seed = 1", ("'seed'", TOP_LEVEL)),
        ("tuner = 3", ("tuner = 3", "[tuner]")),
        ("space = []", ("space = []", "[space]")),
        ("name = 3", ("name = 3", "a line of text")),
        ('about = "two\\nlines"', ("about = 'two", "a line of text")),
        ("[tuner]\nseed = -1", ("seed = -1", SEED)),
        ("[tuner]\nseed = 2020-01-01", ("seed = datetime.date(2020", SEED)),
        (f"[tuner]\nseed = 0x{'f' * 9999}", (SEED,)),
        ('[tuner]\nkind = "greedy"', ("'greedy'", "random, grid, bayesian, hyperband, tpe")),
        ("[training]\nepochs = 0", ("epochs = 0", "a whole number from 1 to 10000")),
        ('[tracking]\nkeep_models = "-1"', ("'-1'", "all, best, or a number")),
        ("[space]\nunits = 0", ("units = 0", "a whole number from 1 to 2048")),
        ("name = 'a'\nname = 'b'", ("is not TOML", "Cannot overwrite a value")),
        ("[tuner", ("is not TOML", "Expected ']'")),
        (b"\xff\xfe\x00", ("not a text file in UTF-8",)),
        (f"a = {'9' * 9999}", ("is not TOML",)),
        (f"a = {'[' * 9999}", ("is not TOML",)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_error_names_the_file_and_what_is_wrong_in_it(
    content: str | bytes, expected: tuple[str, ...], write: Write
) -> None:
    path = write(content)
    with pytest.raises(UserError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(path)
    assert [text for text in expected if text not in message] == []
    assert len(message.splitlines()) == 1
    assert len(message) < 400 + len(path)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"tuner.sed": 1}, "key in [tuner] 'sed' is not known"),
        ({"seed": 1}, "section or key 'seed' is not known"),
        ({"a.b.c": 1}, "section or key 'a.b' is not known"),
        ({"tuner.seed": "one"}, "seed = 'one' is not allowed"),
        ({"space.units": "0"}, "units = '0' is not allowed"),
    ],
)
def test_a_wrong_override_does_not_blame_the_file(
    overrides: dict[str, Any], expected: str, write: Write
) -> None:
    with pytest.raises(UserError) as caught:
        load_config(write(FULL), overrides)
    assert str(caught.value).startswith(expected)


def test_an_override_does_not_hide_a_value_in_place_of_its_section() -> None:
    with pytest.raises(UserError, match=r"tuner = 3 is not a section; write \[tuner\]"):
        parse_config({"tuner": 3}, {"tuner.seed": 1})


@pytest.mark.parametrize("name", ["missing.toml", "defualt", "", "a\0b", "x" * 5000])
def test_a_missing_file_is_reported_in_one_line(name: str, tmp_path: Path) -> None:
    path = f"{tmp_path}/{name}"  # for an empty name the folder itself
    with pytest.raises(UserError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "no file" in message or "cannot read" in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


def test_the_error_for_a_misspelt_workflow_lists_the_workflows() -> None:
    with pytest.raises(UserError, match=r"no file 'defualt'.* default, demo, .*rnn_types"):
        load_config("defualt")


@pytest.mark.parametrize(
    ("key", "value"), [("word_dropout", 0.2), ("crop", [0, 100]), ("soft_labels", "0.1-0.5")]
)
def test_hyperparameters_without_effect_on_padded_batches_are_refused(key: str, value: Any) -> None:
    config = parse_config({"space": {key: value}})
    assert config.training.batching == "buckets"
    with pytest.raises(UserError, match=f"{key} = .* has no effect on padded batches"):
        parse_config({"space": {key: value}, "training": {"batching": "padded"}})
    parse_config({"space": {key: 0}, "training": {"batching": "padded"}})
