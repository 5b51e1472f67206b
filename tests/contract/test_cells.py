"""Each cell of the registry says of itself what is true of Keras's layer, and NumPy computes it.

Its step of the compiled loop is compared in ``test_fused_rnn.py``, its exports in
``test_export_formats.py``.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.models import numpy_reference
from imdbtune.models.builders import plain_model
from imdbtune.models.parameter_count import count_parameters


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
@pytest.mark.parametrize("name", CELLS)
def test_numpy_outputs_are_those_of_keras(
    name: str, batch: int, time: int, features: int, units: int, mask_kind: str
) -> None:
    rng = np.random.default_rng(625)
    layer = CELLS[name].keras_layer(units, name, sequences=True, with_cudnn=False)
    layer.build((None, None, features))
    weights = [_random(rng, weights.shape) for weights in layer.get_weights()]
    layer.set_weights(weights)
    x = rng.normal(size=(batch, time, features)).astype(np.float32)
    mask = _mask(mask_kind, batch, time)

    expected = keras.ops.convert_to_numpy(layer(x, mask=mask))
    outputs = numpy_reference.layer(CELLS[name].numpy, x, *weights, mask)

    difference = float(np.abs(outputs - expected).max())
    assert outputs.shape == expected.shape == (batch, time, units)
    assert outputs.dtype == np.float32
    assert np.abs(expected[-1]).max() > 0, "the comparison would be of zeros"
    assert difference < 1e-5, f"{name}: largest difference {difference:.2e}"


@pytest.mark.parametrize("name", CELLS)
def test_layer_and_cell_of_keras_have_the_stated_weights(name: str) -> None:
    cell = CELLS[name]
    layer = cell.keras_layer(5, name, sequences=False)
    keras_cell = cell.keras_cell(5)
    layer.build((None, None, 3))
    keras_cell.build((None, 3))
    weights = {weight.name: weight.shape for weight in layer.weights}
    assert weights == {weight.name: weight.shape for weight in keras_cell.weights}
    assert list(weights) == ["kernel", "recurrent_kernel", "bias"]
    assert weights["kernel"] == (3, 5 * cell.gates)
    assert len(cell.onnx.gate_order) == cell.gates


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"depth": 3, "bidirectional": True, "pooling": "max_mean_attention", "bigrams": 16},
        {"depth": 2, "skip": True, "layer_norm": True, "pooling": "attention"},
    ],
)
@pytest.mark.parametrize("name", CELLS)
def test_weights_are_counted_without_building_the_model(name: str, others: dict[str, Any]) -> None:
    params = TrialParams(rnn=name, units=5, vocabulary=50, embedding=7, **others)
    assert count_parameters(params) == plain_model(params).count_params()


@pytest.mark.parametrize("name", CELLS)
def test_outputs_stay_within_the_bound(name: str) -> None:
    """For inputs and weights that saturate every gate, of either sign."""
    cell, rng = CELLS[name], np.random.default_rng(0)
    layer = cell.keras_layer(16, name, sequences=True)
    layer.build((None, None, 3))
    weights = [rng.choice([-50.0, 50.0], weight.shape) for weight in layer.weights]
    outputs = numpy_reference.layer(cell.numpy, rng.normal(size=(8, 50, 3)), *weights)
    assert 0.9 * cell.bound < np.abs(outputs).max() <= cell.bound


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_cudnn_is_left_out_where_padding_at_the_front_is_masked(name: str, masked: bool) -> None:
    model = plain_model(TrialParams(rnn=name, units=2, vocabulary=20, embedding=3), masked)
    layer = model.get_layer(f"{name}_1")
    assert hasattr(layer, "use_cudnn") or not CELLS[name].has_cudnn
    use_cudnn = getattr(layer, "use_cudnn", "auto")
    assert use_cudnn == (False if masked and CELLS[name].has_cudnn else "auto")


def test_steps_in_numpy_have_names_of_their_own() -> None:
    """The export of an ensemble may have the source of several."""
    steps = {cell.numpy_step for cell in CELLS.values()}
    assert len({step.__name__ for step in steps}) == len(steps)
    assert not {step.__name__ for step in steps} & vars(numpy_reference).keys()


def test_cells_are_described_without_tensorflow() -> None:
    code = (
        "import sys; from imdbtune.config.extensions import CELLS; "
        "print([cell.about for cell in CELLS.values()] and 'tensorflow' in sys.modules)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
