"""What metrics read from predicted probabilities, of two labels or of several classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imdbtune.models.metrics.metric import Floats, Labels

SMALLEST = 1e-7  # probability, as in Keras, so that no logarithm is infinite


def predicted_labels(probabilities: Floats) -> Labels:
    """Return the most probable label of each review, (n,).

    Args:
        probabilities: of label 1, (n,), or of each class, (n, classes).
    """
    if probabilities.ndim == 1:
        return (probabilities > 0.5).astype("int64")
    labels: Labels = probabilities.argmax(axis=1)
    return labels


def is_right(labels: Labels, probabilities: Floats) -> npt.NDArray[np.bool_]:
    """Return whether each review's label is its most probable one, (n,)."""
    right: npt.NDArray[np.bool_] = predicted_labels(probabilities) == labels
    return right


def of_true_label(labels: Labels, probabilities: Floats) -> Floats:
    """Return the probability of each review's label, (n,), at least :data:`SMALLEST`."""
    import numpy as np

    if probabilities.ndim == 1:
        found = np.where(labels == 1, probabilities, 1 - probabilities)
    else:
        found = np.take_along_axis(probabilities, labels[:, None].astype(np.int64), axis=1)[:, 0]
    clipped: Floats = np.clip(found, SMALLEST, 1.0)
    return clipped
