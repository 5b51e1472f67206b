"""Dry builds: what a user's own model draws, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from imdbtune.config.own_model import OwnModel, own_model_of
from imdbtune.config.schema import load_config
from imdbtune.config.search_space import Dimension
from imdbtune.errors import UserError

HEAD = "import keras\nfrom keras import layers\n\n\ndef build(hp):\n"  # five lines
MODEL = """\
    ids = keras.Input((None,), dtype="int32")
    x = layers.GlobalMaxPooling1D()(layers.Embedding(hp.get("vocabulary"), 2)(ids))
    model = keras.Model(ids, layers.Dense(1, activation="sigmoid")(x))
"""
END = "    return model\n"
Inspect = Callable[..., OwnModel]


@pytest.fixture
def inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspect:
    """Write a file, and load the configuration of a search of its model."""
    monkeypatch.chdir(tmp_path)

    def of(text: str, file: str = "mine.py", **space: str) -> OwnModel:
        Path(file).write_text(text)
        flags = {f"space.{name}": value for name, value in {"maxlen": "6", **space}.items()}
        own = load_config(None, {"model.build": f"{file}:build", **flags}).space.own
        assert own is not None
        return own

    return of


def test_all_kinds_of_hyperparameters(inspect: Inspect) -> None:
    drawn = """\
    hp.Int("size", 8, 64, step=8)
    hp.Int("count", 1, 100, sampling="log")
    hp.Float("rate", 0.0, 0.5, step=0.1)
    hp.Float("scale", 1e-3, 1.0, sampling="log")
    hp.Choice("kind", ["a", "b"])
    hp.Boolean("flag")
    hp.Fixed("vocabulary", 50)
"""
    own = inspect(HEAD + drawn + MODEL + END)
    assert not own.compiled
    assert own.drawn == (
        Dimension("size", (), 8.0, 64.0, 8.0, kind="int"),
        Dimension("count", (), 1.0, 100.0, sampling="log", kind="int"),
        Dimension("rate", (), 0.0, 0.5, 0.1, kind="float"),
        Dimension("scale", (), 1e-3, 1.0, sampling="log", kind="float"),
        Dimension("kind", values=("a", "b"), kind="str"),
        Dimension("flag", values=(False, True), kind="bool"),
        Dimension("vocabulary", values=(50,)),  # the name of one of ours: it is ours
    )


def test_what_only_other_values_draw_is_found(inspect: Inspect) -> None:
    drawn = """\
    for layer in range(hp.Int("layers", 1, 3)):
        hp.Int(f"units_{layer}", 4, 64)
    if hp.Choice("top", ["plain", "dense"]) == "dense":
        with hp.conditional_scope("top", ["dense"]):
            if hp.Boolean("dropout"):
                with hp.conditional_scope("dropout", [True]):
                    hp.Float("rate", 0.1, 0.5)
"""
    own = inspect(HEAD + drawn + MODEL + "    model.compile()\n" + END)
    assert own.compiled
    assert {dimension.name: dimension.when for dimension in own.drawn} == {
        "layers": (),
        "units_0": (),
        "top": (),
        "units_1": (),
        "units_2": (),
        "dropout": (("top", ("dense",)),),
        "rate": (("top", ("dense",)), ("dropout", (True,))),
    }


def test_a_model_of_several_labels_has_to_fit_those_of_the_reviews(inspect: Inspect) -> None:
    own = inspect(HEAD + MODEL.replace('(1, activation="sigmoid")', '(3, "softmax")') + END)
    own.check_labels(("a", "b", "c"))
    assert own_model_of(own.as_dict()) == own
    says = re.escape(
        "mine.py:5: the model returns probabilities of shape (batch, 3), but the reviews have "
        '2 labels and need (batch, 1); end with Dense(1, activation="sigmoid").'
    )
    with pytest.raises(UserError, match=says):
        own.check_labels(("bad", "good"))


def test_a_hypermodel_without_its_own_fit(inspect: Inspect) -> None:
    method = "".join(f"    {line}\n" for line in (MODEL + END).splitlines())
    text = "import keras_tuner\n" + HEAD.replace("def build(hp):\n", "")
    text += f"class build(keras_tuner.HyperModel):\n    def build(self, hp):\n{method}"
    assert inspect(text).drawn == ()
    with pytest.raises(UserError, match=r"^fits\.py:\d+: build has a method fit.*remove fit\.$"):
        inspect(text + "\n    def fit(self, hp, model, *args): ...\n", "fits.py")


BROKEN = {
    "def build(hp:": "mine.py:1: '(' was never closed.",
    "import nothing_of_this_name": "mine.py:1: importing the file raises ModuleNotFoundError",
    "def other(hp): ...": "mine.py has no function build; it has other.",
    "build = 3": "mine.py has build, which is neither a function build(hp) nor a class",
    HEAD + "    1 / 0\n": "mine.py:6: build raises ZeroDivisionError: division by zero.",
    HEAD.replace("build(hp)", "build()") + "    ...\n": (
        "mine.py:5: build raises TypeError: build() takes 0 positional arguments but 1 was given."
    ),
    HEAD + "    return 3\n": "mine.py:5: build returns an object of type int, not a keras.Model.",
    HEAD + MODEL.replace('(1, activation="sigmoid")', "(2)") + END: (
        "mine.py:5: the model returns shape (batch, 2) for ids of shape (batch, 6) from 0 to 9999, "
        "but has to return probabilities of shape (batch, 1), or (batch, K) for K labels from 3 to "
    ),
    HEAD + MODEL.replace('(1, activation="sigmoid")', '(3, activation="sigmoid")') + END: (
        "mine.py:5: the model returns 3 probabilities with the sum 1."
    ),
    HEAD
    + MODEL.replace('activation="sigmoid"', "bias_initializer=lambda s, **k: s[0] + 8.0")
    + END: ("mine.py:5: the model returns"),
    HEAD + MODEL.replace("(None,)", "(9,)") + END: (
        "mine.py:5: the model takes shape (batch, 9), but gets ids of shape (batch, 6)"
    ),
    HEAD + MODEL.replace('hp.get("vocabulary")', "50") + END: (
        "mine.py:5: the model cannot read ids of shape (batch, 6) from 0 to 9999"
    ),
    "import random\n" + HEAD + "    hp.Int(f'n{random.getrandbits(64)}', 1, 2)\n" + MODEL + END: (
        "draws other hyperparameters from call to call"
    ),
    HEAD + "    hp.Int('seed', 1, 2)\n" + MODEL + END: (
        "mine.py:5: the hyperparameter seed has the name of a setting or a result"
    ),
    HEAD + "    if hp.Boolean('deep'):\n        raise ValueError('too deep')\n" + MODEL + END: (
        "mine.py:7: build raises ValueError: too deep (with deep = True)."
    ),
    HEAD + MODEL + "    model = keras.Sequential([layers.Lambda(lambda v: v), model])\n" + END: (
        "mine.py:5: the model cannot be saved and opened again (its file is not safe to open"
    ),
}


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_what_is_wrong_is_told_in_one_line(inspect: Inspect, tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as raised:
        inspect(text)
    assert BROKEN[text] in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]  # nothing was created


def test_the_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "mine.py").write_text(HEAD + MODEL + END)
    (folder / "search.toml").write_text('[model]\nbuild = "mine.py:build"\n')
    config = load_config(str(folder / "search.toml"))
    assert config.model.build == "mine.py:build"
    assert config.space.own is not None
    assert config.space.own.location == str(folder / "mine.py")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the model '.*none\.py': No such file"):
        load_config(None, {"model.build": f"{tmp_path / 'none.py'}:build"})
