"""Models that are given as functions and classes of Python: their source, as far as it goes."""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pytest
from keras import layers

from imdbtune.config.schema import load_config
from imdbtune.errors import UserError
from imdbtune.models.own_source import call_build
from imdbtune.search.context import Context
from imdbtune.search.plan import own_model_config
from imdbtune.search.python_model import source_of
from tests.support import noting

CELLS = '''\
import keras
import numpy as np
from keras import layers

SIZES, UNUSED = [2, 4], object()


def activation(x):
    """Another definition of the notebook."""
    return keras.ops.tanh(x)


@keras.saving.register_keras_serializable()
class Scaled(layers.Layer):
    FACTOR = 2.0

    def call(self, x):
        return activation(x) * self.FACTOR


def build(hp):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(hp.get("vocabulary"), hp.Choice("size", SIZES))(ids)
    x = Scaled()(layers.GlobalMaxPooling1D()(x))
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(x))


class Mine(keras_tuner.HyperModel):
    def build(self, hp):
        return build(hp)


class Sized(keras_tuner.HyperModel):
    def __init__(self, size=2):
        super().__init__()
        self.size = size

    def build(self, hp):
        return build(hp)


def factory(size):
    def build(hp):
        return size
    return build


def uses_an_array(hp):
    return array


array = np.zeros(3)
closed = factory(3)
short = lambda hp: None
'''


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of a notebook whose cells have been run: it has no file."""
    module = types.ModuleType("__main__")
    vars(module)["keras_tuner"] = keras_tuner
    monkeypatch.setitem(sys.modules, "__main__", module)
    file = "<cell>"
    linecache.cache[file] = (len(CELLS), None, CELLS.splitlines(keepends=True), file)
    exec(compile(CELLS, file, "exec"), vars(module))
    yield module
    del linecache.cache[file]


def top_level(hp: keras_tuner.HyperParameters) -> keras.Model:
    ids = keras.Input((None,), dtype="int32")
    x = layers.GlobalMaxPooling1D()(
        layers.Embedding(hp.get("vocabulary"), hp.Int("size", 2, 4))(ids)
    )
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(x))


def test_a_module_is_its_file() -> None:
    source, location = source_of(top_level)
    assert (source.build, location) == ("test_python_model.py:top_level", __file__)
    assert source.text == Path(__file__).read_text()


@pytest.mark.parametrize("name", ["build", "Mine"])
def test_of_a_notebook_it_is_what_the_model_needs(notebook: Any, name: str) -> None:
    source, location = source_of(getattr(notebook, name))
    assert (source.build, location) == (f"{name}.py:{name}", "")
    assert source.text.startswith("import keras\n")
    assert "SIZES = [2, 4]\n" in source.text
    assert '"""Another definition of the notebook."""' in source.text
    assert "UNUSED" not in source.text
    assert "import numpy" not in source.text
    model, hp = call_build(source, {"vocabulary": 10})
    assert hp.values["size"] == 2
    assert any(type(layer).__name__ == "Scaled" for layer in model.layers)


def test_an_object_that_is_as_its_class_makes_it(notebook: Any) -> None:
    assert source_of(notebook.Sized())[0].function == "Sized"
    with pytest.raises(UserError, match=r"has other values than Sized\(\), .* write it to a file"):
        source_of(notebook.Sized(3))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda book: book.closed, r"build closes over size, which .*; write it to a file, and"),
        (lambda book: book.short, "uses a lambda, which has no source"),
        (lambda book: book.uses_an_array, "uses_an_array uses array, a ndarray that the source"),
        (lambda book: 3, r"model = 3 is neither a function build\(hp\) nor"),
        (lambda book: keras.Model, "neither a function"),
    ],
)
def test_what_does_not_stand_by_itself_is_refused(
    notebook: Any, make: Callable[[Any], object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        source_of(make(notebook))


def test_a_function_without_source_is_refused(notebook: Any) -> None:
    exec("def build(hp):\n    return None\n", vars(notebook))
    with pytest.raises(UserError, match=r'source of build cannot be had; .*"FILE\.py:build"'):
        source_of(notebook.build)


def test_a_configuration_keeps_what_is_of_the_reviews() -> None:
    config = load_config(None, {"tuner.max_trials": "3", "space.maxlen": "8"})
    notices: list[str] = []
    context = Context(listener=noting(notices))
    found = own_model_config(config, top_level, context)
    assert found.space.own is not None
    (notice,) = notices
    assert "left out, as they belong to imdbtune's own models: rnn, " in notice
    assert [each.name for each in found.space.own.drawn] == ["size"]
    assert {"learning_rate", "size"} <= {*found.space.varied}
    assert (found.tuner.max_trials, found.tuner.tries) == (3, "")
    with pytest.raises(UserError, match=r"has the model test_python_model\.py:top_level already"):
        own_model_config(found, top_level, context)
    narrowed = load_config(None, {"model.build": top_level, "space.size": "4"})
    assert narrowed.name == "top_level"
    assert [d.in_words() for d in narrowed.space.dimensions if d.name == "size"] == ["4"]
