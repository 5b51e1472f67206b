"""The loss that training minimises: cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.models.metrics.metric import Metric
from imdbtune.models.metrics.predictions import of_true_label

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Labels


def cross_entropy(labels: Labels, probabilities: Floats) -> float:
    """Return the mean negative logarithm of the probability of each review's label."""
    import numpy as np

    return float(-np.log(of_true_label(labels, probabilities)).mean())


LOSS = Metric(
    about="cross-entropy, which training minimises; of two labels, that of a constant 0.5 is 0.69",
    axis="loss",
    larger_is_better=False,
    measure=cross_entropy,
    in_keras=None,  # Keras reports it by itself
    log_above=5.0,
)
