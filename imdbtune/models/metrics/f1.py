"""F1: the harmonic mean of precision and recall, of label 1 or averaged over several classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.models.metrics.metric import Metric
from imdbtune.models.metrics.predictions import predicted_labels

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Labels


def _measure(labels: Labels, probabilities: Floats) -> float:
    """Classes that no review has, nor is predicted to have, do not count, as in scikit-learn."""
    import numpy as np

    predicted = predicted_labels(probabilities)
    classes = 2 if probabilities.ndim == 1 else probabilities.shape[1]
    right = np.bincount(labels[predicted == labels], minlength=classes)
    either = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    if probabilities.ndim == 1:
        return float(2 * right[1] / max(either[1], 1))
    return float((2 * right[either > 0] / either[either > 0]).mean())


F1 = Metric(
    about="harmonic mean of precision and recall: of label 1, or the mean over several classes",
    axis="F1 (fraction, 0 to 1)",
    larger_is_better=True,
    is_share=True,
    measure=_measure,
)
