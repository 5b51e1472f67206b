"""The space of a model of the user's own, from what dry builds have found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.own_model import ModelSource, OwnModel, check_name, own_model_of, split_build
from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.config.search_space import Dimension
from imdbtune.errors import UserError

SOURCE = ModelSource("mine.py", "build", "def build(hp): ...\n")
OWN = OwnModel(
    SOURCE,
    compiled=True,
    drawn=(
        Dimension("units", (), 8.0, 64.0, 8.0, kind="int"),
        Dimension("cell", values=("plain", "gated"), kind="str"),
        Dimension("gates", values=(1, 2), when=(("cell", ("gated",)),), kind="int"),
        Dimension("maxlen", values=(100, 200)),
    ),
    location="/somewhere/mine.py",
)
UNCOMPILED = replace(OWN, compiled=False)


def config(own: OwnModel = OWN, **space: object) -> SearchConfig:
    model = {"build": SOURCE.build, "found": own.as_dict()}
    return parse_config({"model": model, "space": space})


def test_what_the_model_draws_is_the_space() -> None:
    space = config(batch_size=[32, 64]).space
    assert [d.name for d in space.dimensions] == ["units", "cell", "gates", "maxlen", "batch_size"]
    assert space.dimensions[:4] == OWN.drawn
    # 8 sizes, plain or gated with one or two gates, two lengths, two batch sizes.
    assert space.size() == 8 * (1 + 2) * 2 * 2


def test_the_configuration_is_restored_without_running_the_code() -> None:
    before = config(units="16,32")
    after = parse_config(before.as_dict())
    assert after == before
    assert after.digest == before.digest
    assert after.space.own == own_model_of(OWN.as_dict()) == OWN


def test_another_source_has_another_digest() -> None:
    changed = replace(OWN, source=replace(SOURCE, text="def build(hp): pass\n"))
    assert config(changed).digest != config().digest
    assert config(replace(OWN, location="elsewhere")).digest == config().digest


def test_a_table_narrows_what_is_drawn_and_conditions_stay() -> None:
    gates = next(d for d in config(gates=2).space.dimensions if d.name == "gates")
    assert gates == Dimension("gates", values=(2,), when=(("cell", ("gated",)),), kind="int")
    fixed = config(cell="gated").space
    assert Dimension("gates", values=(1, 2), kind="int") in fixed.dimensions
    assert "gates" not in [d.name for d in config(cell="plain").space.dimensions]


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"units": 128}, "units = 128 is not allowed; units is a whole number from 8 to 64"),
        ({"cell": "other"}, "cell is one of plain, gated"),
        ({"gates": "1-2"}, "gates is one of 1, 2"),
        ({"rnn": "gru"}, "hyperparameter 'rnn' is not known; allowed: maxlen, vocabulary"),
        ({"learning_rate": 0.1}, "hyperparameter 'learning_rate' is not known"),
    ],
)
def test_values_that_the_model_does_not_draw_are_refused(
    space: dict[str, object], problem: str
) -> None:
    with pytest.raises(UserError) as raised:
        config(**space)
    assert problem in str(raised.value)


def test_a_model_that_is_not_compiled_has_our_optimizer() -> None:
    space = config(UNCOMPILED, learning_rate="0.001,0.01").space
    params = space.params({"units": 8, "cell": "plain", "maxlen": 100, "learning_rate": 0.01})
    assert params.learning_rate == 0.01
    assert "optimizer" in params.as_dict()


def test_configurations_are_equal_if_model_and_values_are() -> None:
    space, values = config().space, {"units": 16, "cell": "plain", "maxlen": 100}
    params = space.params(values)
    assert params == space.params(values)
    assert params.maxlen == 100
    assert params.value("units") == 16  # its own, not the default of ours
    assert params.value("gates") is None
    assert "rnn" not in params.as_dict()
    assert params.label == "mine-L100-units16-cellplain"
    assert space.values_of(params) == values
    assert space.values_of(TrialParams()) is None
    changed = replace(OWN, source=replace(SOURCE, text="other"))
    assert config(changed).space.values_of(params) is None


def test_ordinary_configurations_know_nothing_of_it() -> None:
    plain = parse_config({"space": {"units": 8}})
    assert "model" not in plain.as_dict()
    assert "own" not in TrialParams().as_dict()
    assert TrialParams().value("units") == 32


@pytest.mark.parametrize("name", ["a b", "a.b", "seed", "epochs", "val_accuracy", "", "1st"])
def test_names_that_files_flags_or_mlflow_cannot_have(name: str) -> None:
    with pytest.raises(UserError):
        check_name(name)


@pytest.mark.parametrize("text", ["mine.py", "mine:build", "mine.py:", "my-file.py:build", ""])
def test_a_model_is_a_file_and_a_function(text: str) -> None:
    with pytest.raises(UserError, match=r"FILE\.py:FUNCTION"):
        split_build(text)


def test_a_damaged_record_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.found"):
        own_model_of({"file": "mine.py"})
