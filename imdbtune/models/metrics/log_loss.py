"""The log loss: cross-entropy with the labels, whatever loss the training minimises."""

from __future__ import annotations

from imdbtune.models.metrics.loss import cross_entropy
from imdbtune.models.metrics.metric import Metric

LOG_LOSS = Metric(
    about="mean negative logarithm of the probability of the label, whatever the training's loss",
    axis="log loss (nats)",
    larger_is_better=False,
    measure=cross_entropy,
    log_above=5.0,
)
