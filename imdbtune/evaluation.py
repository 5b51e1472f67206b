"""Loss and accuracy of a saved model on a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imdbtune.data.batches import Batches
from imdbtune.data.corpus import Split
from imdbtune.data.download import Progress
from imdbtune.keras_file import load_keras
from imdbtune.params import TrialParams


def evaluate_model(
    model: Path,
    split: Split,
    params: TrialParams,
    padded: bool,
    progress: Progress | None = None,
) -> dict[str, float]:
    """``test_accuracy`` and ``test_loss`` as means over all reviews of ``split``.

    Args:
        model: a ``.keras`` file of plain layers.
        padded: the model was trained without a mask, on reviews padded to maxlen.
        progress: told after each batch how many reviews are done.

    Raises:
        UserError: the file is unsafe or damaged.
    """
    import tensorflow as tf

    loaded = load_keras(model)
    run = tf.function(lambda ids: loaded(ids, training=False), reduce_retracing=True)
    rows = np.arange(len(split))
    batches = Batches(split, rows, 256, params.maxlen, params.vocabulary)
    right = loss = 0.0
    done = 0
    for ids, labels, weights in batches.epoch():
        if progress is not None:
            progress("evaluating on the test reviews", done, len(split))
        used = ids if padded else ids[:, int(np.argmax((ids != 0).any(axis=0))) :]
        chance = np.clip(run(tf.constant(used)).numpy(), 1e-7, 1 - 1e-7)
        real = weights > 0
        done += int(real.sum())
        right += float(((chance > 0.5) == (labels > 0.5))[real].sum())
        loss -= float(np.log(np.where(labels > 0.5, chance, 1 - chance))[real].sum())
    return {"test_accuracy": right / len(split), "test_loss": loss / len(split)}
