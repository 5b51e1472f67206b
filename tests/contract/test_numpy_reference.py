"""The NumPy recurrent layers against Keras's own, with the largest difference shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

from imdbtune.models import numpy_reference

LAYERS: dict[str, tuple[Callable[..., Any], Callable[..., numpy_reference.Array]]] = {
    "simple_rnn": (keras.layers.SimpleRNN, numpy_reference.simple_rnn),
    "lstm": (keras.layers.LSTM, numpy_reference.lstm),
    "gru": (keras.layers.GRU, numpy_reference.gru),
    "gru_reset_before": (
        partial(keras.layers.GRU, reset_after=False),
        partial(numpy_reference.gru, reset_after=False),
    ),
}


def _mask(kind: str, batch: int, time: int) -> numpy_reference.Mask | None:
    """Rows of different lengths, the first of them wholly masked where there are several."""
    lengths = np.linspace(0 if batch > 1 else 1, time, batch).astype(int)[:, None]
    if kind == "none":
        return None
    if kind == "gaps":
        return np.random.default_rng(3).random((batch, time)) < 0.6
    positions = np.arange(time)[None]
    return positions < lengths if kind == "post" else positions >= time - lengths


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> numpy_reference.Array:
    """Scaled like trained weights: larger ones make a SimpleRNN chaotic, and rounding grows."""
    return rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32) * np.float32(0.9)


@pytest.mark.parametrize("mask_kind", ["none", "pre", "post", "gaps"])
@pytest.mark.parametrize(
    ("batch", "time", "features", "units"), [(1, 1, 1, 1), (3, 7, 5, 4), (8, 60, 32, 64)]
)
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_equal_keras(
    name: str, batch: int, time: int, features: int, units: int, mask_kind: str
) -> None:
    keras_class, ours = LAYERS[name]
    rng = np.random.default_rng(625)
    layer = keras_class(units, return_sequences=True)
    layer.build((None, None, features))
    weights = [_random(rng, weights.shape) for weights in layer.get_weights()]
    layer.set_weights(weights)
    x = rng.normal(size=(batch, time, features)).astype(np.float32)
    mask = _mask(mask_kind, batch, time)

    expected = keras.ops.convert_to_numpy(layer(x, mask=mask))
    outputs = ours(x, *weights, mask)

    difference = float(np.abs(outputs - expected).max())
    assert outputs.shape == expected.shape == (batch, time, units)
    assert outputs.dtype == np.float32
    assert np.abs(expected[-1]).max() > 0, "the comparison would be of zeros"
    assert difference < 1e-5, f"{name}: largest difference {difference:.2e}"
