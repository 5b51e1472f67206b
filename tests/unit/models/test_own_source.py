"""Builds of a user's own model beside threads that draw random numbers, too."""

from __future__ import annotations

import random

import numpy as np
import pytest

from imdbtune.config.hyperparameters import OwnValues, TrialParams
from imdbtune.config.own_model import ModelSource
from imdbtune.models import own_source

TEXT = """\
import keras
from keras import layers


def build(hp):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Dense(3)(layers.GlobalMaxPooling1D()(layers.Embedding(9, 2)(ids)))
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(x))
"""


def test_weights_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first builds are disturbed, each in another way."""
    source = ModelSource("mine.py", "build", TEXT)
    own = OwnValues(source.build, source.digest, False, ())
    params = TrialParams(maxlen=5, vocabulary=9, own=own)
    expected = own_source.build_own(source, params, seed=3).get_weights()
    calls, undisturbed = 0, own_source.call_build

    def disturbed(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        for _ in range(max(0, 4 - calls)):
            random.random()
        return undisturbed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(own_source, "call_build", disturbed)
    built = own_source.build_own(source, params, seed=3).get_weights()
    assert calls == 5
    assert all(np.array_equal(one, other) for one, other in zip(built, expected, strict=True))
