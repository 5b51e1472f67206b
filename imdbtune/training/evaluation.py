"""Evaluate a saved model on the reviews of a split: probabilities and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.own_model import ModelSource
from imdbtune.data.batches import Batches, Index
from imdbtune.data.corpus import Split
from imdbtune.data.download import Progress
from imdbtune.models.metrics.metric import Metric, measure
from imdbtune.models.safe_load import load_keras

Probabilities = npt.NDArray[np.float64]


def probabilities(
    model: Path,
    split: Split,
    rows: Index,
    params: TrialParams,
    padded: bool,
    progress: Progress | None = None,
    source: ModelSource | None = None,
) -> Probabilities:
    """Return the probability of label 1 for the reviews ``rows``, (rows,), in their order.

    A model of more than two labels gives the probability of each, (rows, labels).

    Args:
        model: a ``.keras`` file of plain layers.
        split: the reviews.
        rows: row numbers of the reviews to evaluate.
        params: hyperparameters of the model.
        padded: the model was trained without a mask, on reviews padded to maxlen.
        progress: called before each batch with the number of reviews done.
        source: of a user's own model, trusted.

    Raises:
        UserError: the file is unsafe or damaged.
    """
    import tensorflow as tf

    loaded = load_keras(model, source)
    run = tf.function(lambda ids: loaded(ids, training=False), reduce_retracing=True)
    batches = Batches(split, rows, 256, params.maxlen, params.vocabulary)
    result, done = np.zeros((len(split), 1)), 0
    for batch_rows, (ids, _, weights) in zip(batches.plan(), batches.epoch(), strict=True):
        if progress is not None:
            progress("evaluating", done, len(rows))
        if not padded:  # drop the columns that are padding in all rows
            ids = ids[:, int(np.argmax((ids != 0).any(axis=0))) :]
        predicted = run(tf.constant(ids)).numpy()[weights > 0]
        if not done:
            result = np.zeros((len(split), predicted.shape[1]))
        result[batch_rows] = predicted
        done += len(batch_rows)
    found = result[rows]
    return found[:, 0] if found.shape[1] == 1 else found


def evaluate_model(
    model: Path,
    split: Split,
    params: TrialParams,
    padded: bool,
    progress: Progress | None = None,
    source: ModelSource | None = None,
    *,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, float]:
    """Return each metric over all reviews of ``split``, such as ``test_loss``.

    Arguments and exceptions are those of :func:`probabilities`.

    Args:
        metrics: by name; default: those of each search.
    """
    rows = np.arange(len(split))
    predicted = probabilities(model, split, rows, params, padded, progress, source)
    found = measure(np.asarray(split.labels, np.int64), predicted, metrics)
    return {f"test_{name}": value for name, value in found.items()}
