from __future__ import annotations

import warnings

import numpy as np
import pytest

from imdbtune.config.extensions import CELLS
from imdbtune.models.cells.simple_rnn import simple_rnn_listing
from imdbtune.models.numpy_reference import Array, layer

SIMPLE_RNN, LSTM, GRU = (CELLS[name].numpy for name in ("simple_rnn", "lstm", "gru"))


def _weights(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(0, 0.2, shape).astype(np.float32)


def test_listing_has_one_output_row_per_time_step_and_equals_simple_rnn() -> None:
    rng = np.random.default_rng(621)
    inputs = rng.random((100, 32))
    w, u, b = rng.random((64, 32)) / 32, rng.normal(0, 0.1, (64, 64)), rng.random(64)

    listing = simple_rnn_listing(inputs, w, u, b)
    outputs = layer(SIMPLE_RNN, inputs[None], w.T, u.T, b)[0]

    assert listing.shape == (100, 64)
    np.testing.assert_allclose(listing[0], np.tanh(w @ inputs[0] + b), rtol=1e-12)
    np.testing.assert_allclose(listing[1], np.tanh(w @ inputs[1] + u @ listing[0] + b), rtol=1e-12)
    assert np.abs(listing - outputs).max() < 1e-12


def test_lstm_follows_the_equations_by_hand() -> None:
    x = np.array([[[1.0], [-2.0]]])
    kernel = np.array([[0.5, -0.3, 0.8, 0.2]])
    recurrent = np.array([[0.1, 0.4, -0.6, 0.7]])
    bias = np.array([0.0, 1.0, 0.1, -0.2])
    h = c = 0.0
    expected = []
    for value in x[0, :, 0]:
        zi, zf, zc, zo = value * kernel[0] + h * recurrent[0] + bias
        i, f, o = (1 / (1 + np.exp(-z)) for z in (zi, zf, zo))
        c = i * np.tanh(zc) + c * f
        h = o * np.tanh(c)
        expected.append(h)
    np.testing.assert_allclose(layer(LSTM, x, kernel, recurrent, bias)[0, :, 0], expected)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("before", [0, 3])
def test_masked_padding_changes_nothing(name: str, before: int) -> None:
    rng, cell = np.random.default_rng(1), CELLS[name].numpy
    keras_cell = CELLS[name].keras_cell(6)
    keras_cell.build((None, 4))
    weights = [_weights(rng, *weight.shape) for weight in keras_cell.weights]
    x = _weights(rng, 2, 5, 4)
    padded = np.pad(x, ((0, 0), (before, 3 - before), (0, 0)), constant_values=9.0)
    mask = np.zeros((2, 8), dtype=bool)
    mask[:, before : before + 5] = True

    plain, masked = layer(cell, x, *weights), layer(cell, padded, *weights, mask)

    assert plain.dtype == masked.dtype == np.float32
    assert masked.shape == (2, 8, 6)
    assert not masked[:, :before].any()
    np.testing.assert_allclose(masked[:, before : before + 5], plain, atol=1e-6)
    np.testing.assert_array_equal(masked[:, -1], masked[:, before + 4])


def test_large_values_saturate_without_a_warning() -> None:
    ones = np.ones((1, 1, 1), dtype=np.float32)
    kernel = np.full((1, 4), -1e4, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = layer(LSTM, ones, kernel, np.zeros_like(kernel), np.zeros(4, np.float32))
    assert output.item() == 0


def test_a_batch_without_rows_or_steps_has_no_outputs() -> None:
    weights = np.ones((3, 8)), np.ones((2, 8)), np.ones(8)
    assert layer(LSTM, np.ones((0, 5, 3)), *weights).shape == (0, 5, 2)
    assert layer(LSTM, np.ones((4, 0, 3)), *weights).shape == (4, 0, 2)


def test_wrong_mask_shape_is_refused() -> None:
    x, kernel, recurrent = np.ones((2, 4, 3)), np.ones((3, 6)), np.ones((2, 6))
    with pytest.raises(ValueError, match=r"mask \(2, 5\) is not \(batch, time\) = \(2, 4\)"):
        layer(GRU, x, kernel, recurrent, np.ones((2, 6)), np.ones((2, 5), dtype=bool))
