"""The loss that training minimises: binary cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imdbtune.models.metrics.metric import Metric

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Labels


def _measure(probabilities: Floats, labels: Labels) -> float:
    import numpy as np

    of_label = np.where(labels == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.clip(of_label, 1e-7, 1.0)).mean())


LOSS = Metric(
    about="binary cross-entropy, which training minimises; that of a constant 0.5 is 0.69",
    axis="loss",
    larger_is_better=False,
    measure=_measure,
    in_keras=None,
    log_above=5.0,
)
