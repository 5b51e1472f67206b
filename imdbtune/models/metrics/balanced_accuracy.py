"""The balanced accuracy: the mean over the labels of the share of their reviews that is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.models.metrics.metric import Metric
from imdbtune.models.metrics.predictions import is_right

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Labels


def _measure(labels: Labels, probabilities: Floats) -> float:
    """Labels without a review do not count, as in scikit-learn."""
    import numpy as np

    counts = np.bincount(labels)
    found = np.bincount(labels[is_right(labels, probabilities)], minlength=len(counts))
    return float((found[counts > 0] / counts[counts > 0]).mean())


BALANCED_ACCURACY = Metric(
    about="accuracy of the reviews of each label, averaged over the labels",
    axis="balanced accuracy (fraction, 0 to 1)",
    larger_is_better=True,
    is_share=True,
    measure=_measure,
)
