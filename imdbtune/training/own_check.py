"""Check that a user's own model can be trained here: its input, its output, and its saved file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import Scalar
from imdbtune.config.own_model import ModelSource, last_layer
from imdbtune.data.labels import MOST
from imdbtune.errors import UserError, first_line, quote_path
from imdbtune.models.own_code import error_in
from imdbtune.models.own_source import save_own, where
from imdbtune.models.safe_load import load_keras
from imdbtune.training.failure_text import cause_of

REVIEWS = 3  # that a model is tried with
TOLERANCE = 1e-5
SUM_TOLERANCE = 1e-3

Array = npt.NDArray[np.float64]


def check_model(
    source: ModelSource, model: keras.Model, ours: Mapping[str, Scalar], saved: bool
) -> int:
    """Check a model with reviews of random ids, and return the number of its outputs.

    Args:
        source: the user's.
        model: that its function has returned.
        ours: ``maxlen`` and ``vocabulary`` of the reviews.
        saved: also save the model, open it again and compare its probabilities.

    Raises:
        UserError: it does not take ids (batch, maxlen), does not return probabilities (batch, 1) or
            (batch, labels), or is another model after it was saved.
    """
    maxlen, vocabulary = int(ours["maxlen"]), int(ours["vocabulary"])
    ids = np.random.default_rng(0).integers(1, vocabulary, (REVIEWS, maxlen)).astype(np.int32)
    ids[0, : maxlen - 1] = 0
    ids[-1, -1] = vocabulary - 1
    wanted = f"ids of shape (batch, {maxlen}) from 0 to {vocabulary - 1}"
    _check_input(source, model, maxlen)
    try:
        output = model(ids, training=False)
    except Exception as error:  # of Keras, TensorFlow or the user's layers
        found = error_in(source.file, error, "the model raises", where(source))
        at = str(found).partition(": ")[0]
        reason = cause_of(error)[:200].rstrip(".") or type(error).__name__
        raise UserError(
            f"{at}: the model cannot read {wanted} ({reason}); build it for the numbers of "
            'hp.get("vocabulary") and hp.get("maxlen"), or set space.vocabulary and space.maxlen.'
        ) from error
    probabilities = _checked_output(source, output, wanted)
    if saved:
        _check_saved(source, model, ids, probabilities)
    return int(probabilities.shape[1])


def _checked_output(source: ModelSource, output: object, wanted: str) -> Array:
    """Return the output of a model for ``REVIEWS`` reviews, after checking it.

    Args:
        wanted: what the model was given, in words.
    """
    shape = getattr(output, "shape", None)
    fits = shape is not None and len(shape) == 2 and shape[0] == REVIEWS
    columns = int(shape[1]) if shape is not None and fits else 0
    if columns != 1 and not 3 <= columns <= MOST:
        came = _batch_shape(tuple(shape)) if shape is not None else type(output).__name__
        raise UserError(
            f"{where(source)}: the model returns {came} for {wanted}, but has to return "
            f"probabilities of shape (batch, 1), or (batch, K) for K labels from 3 to {MOST}; end "
            f'with {last_layer(1)} or Dense(K, activation="softmax").'
        )
    probabilities = np.asarray(output, np.float64)
    low, high, sums = probabilities.min(), probabilities.max(), probabilities.sum(axis=1)
    if not (low >= 0 and high <= 1):
        found = f"returns {low:.3g} to {high:.3g}, but has to return probabilities from 0 to 1"
    elif columns > 1 and not np.abs(sums - 1).max() < SUM_TOLERANCE:
        found = f"returns {columns} probabilities with the sum {sums[0]:.3g}, which has to be 1"
    else:
        return probabilities
    raise UserError(f"{where(source)}: the model {found}; end with {last_layer(columns)}.")


def _check_input(source: ModelSource, model: keras.Model, maxlen: int) -> None:
    """Check the input shape of a functional model, whose own message would be long."""
    inputs = getattr(model, "inputs", None) or []
    shapes = [tuple(each.shape) for each in inputs]
    if not shapes or (len(shapes) == 1 and shapes[0][1:] in ((None,), (maxlen,))):
        return
    came = " and ".join(_batch_shape(shape) for shape in shapes)
    raise UserError(
        f"{where(source)}: the model takes {came}, but gets ids of shape (batch, {maxlen}); use "
        'keras.Input((None,)) or hp.get("maxlen"), or set space.maxlen.'
    )


def _batch_shape(shape: tuple[int | None, ...]) -> str:
    """Return a shape as ``(batch, 500)``."""
    rest = ", ".join("any" if size is None else str(size) for size in shape[1:])
    return f"shape (batch, {rest})" if len(shape) > 1 else f"shape {shape}"


def _check_saved(
    source: ModelSource,
    model: keras.Model,
    ids: npt.NDArray[np.int32],
    expected: Array,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        try:
            save_own(model, path, max(2, expected.shape[1]))
            again = load_keras(path, source)
            actual = np.asarray(again(ids, training=False), np.float64)
        except Exception as error:  # Keras raises many types
            reason = first_line(error, 400).replace(quote_path(path), "its file")
            raise UserError(
                f"{where(source)}: the model cannot be saved and opened again ({reason}); write "
                "layers as classes with @keras.saving.register_keras_serializable() and "
                "get_config, and without Lambda."
            ) from error
    if not np.abs(actual - expected).max() <= TOLERANCE:
        raise UserError(
            f"{where(source)}: the model gives other probabilities after it was saved and opened "
            "again; create all weights in build, and return all arguments in get_config."
        )
