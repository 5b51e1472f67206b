"""A metric: the share of the positive reviews that are found."""

from __future__ import annotations

from typing import Any

from imdbtune.models.metrics.metric import Metric


def measure(labels: Any, probabilities: Any) -> float:
    return float((probabilities[labels == 1] > 0.5).mean())


def in_keras(name: str) -> Any:
    import keras

    return keras.metrics.Recall(name=name)


RECALL = Metric(
    about="share of the positive reviews that are found",
    axis="recall (fraction, 0 to 1)",
    larger_is_better=True,
    measure=measure,
    in_keras=in_keras,
    format=".2f",
)
