"""What a saved model says to the reviews of a split: probabilities, loss and accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.batches import Batches, Index, limit_rows, validation_split
from imdbtune.data.corpus import Split
from imdbtune.data.download import Progress
from imdbtune.models.metrics import measure
from imdbtune.models.safe_load import load_keras

Probabilities = npt.NDArray[np.float64]


def probabilities(
    model: Path,
    split: Split,
    rows: Index,
    params: TrialParams,
    padded: bool,
    progress: Progress | None = None,
) -> Probabilities:
    """The probability of label 1 for each of the reviews ``rows``, in their order.

    Args:
        model: a ``.keras`` file of plain layers.
        padded: the model was trained without a mask, on reviews padded to maxlen.
        progress: told before each batch how many reviews are done.

    Raises:
        UserError: the file is unsafe or damaged.
    """
    import tensorflow as tf

    loaded = load_keras(model)
    run = tf.function(lambda ids: loaded(ids, training=False), reduce_retracing=True)
    batches = Batches(split, rows, 256, params.maxlen, params.vocabulary)
    found = np.zeros(len(split))
    done = 0
    for chosen, (ids, _, weights) in zip(batches.plan(), batches.epoch(), strict=True):
        if progress is not None:
            progress("evaluating", done, len(rows))
        seen = ids if padded else ids[:, int(np.argmax((ids != 0).any(axis=0))) :]
        found[chosen] = run(tf.constant(seen)).numpy()[weights > 0, 0]
        done += len(chosen)
    return found[rows]


def evaluate_model(
    model: Path,
    split: Split,
    params: TrialParams,
    padded: bool,
    progress: Progress | None = None,
) -> dict[str, float]:
    """``test_accuracy`` and ``test_loss`` as means over all reviews of ``split``.

    The arguments, and what is raised, are those of :func:`probabilities`.
    """
    rows = np.arange(len(split))
    chances = probabilities(model, split, rows, params, padded, progress)
    found = measure(chances, split.labels)
    return {f"test_{name}": value for name, value in found.items()}


def validation_right(
    model: Path, train: Split, reviews: int, params: TrialParams, padded: bool
) -> npt.NDArray[np.bool_]:
    """Whether a model is right about each of the validation reviews, in their order.

    ``train`` is the corpus's training split, of which the first ``reviews`` were used (0: all).
    """
    rows = validation_split(limit_rows(len(train), reviews))[1]
    positive = train.labels[rows] > 0
    right = (probabilities(model, train, rows, params, padded) > 0.5) == positive
    return np.asarray(right, np.bool_)
