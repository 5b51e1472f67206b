"""The accuracy: the share of reviews whose label is the most probable one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from imdbtune.models.metrics.metric import Metric
from imdbtune.models.metrics.predictions import is_right

# A cheaper model is preferred if its accuracy is shown to be at most this much lower.
MARGIN = 0.005

if TYPE_CHECKING:
    import keras

    from imdbtune.models.metrics.metric import Floats, Labels


def _measure(labels: Labels, probabilities: Floats) -> float:
    return float(is_right(labels, probabilities).mean())


def standard_error(value: float, reviews: int) -> float:
    """Return the standard error of an accuracy on so many reviews; 0 without a review."""
    return math.sqrt(value * (1.0 - value) / reviews) if reviews else 0.0


def agree(labels: Any, probabilities: Any) -> Any:
    """Return 1 where the label is the most probable one, else 0: (batch,).

    Keras's own metric would find no soft label equal to a rounded probability.

    Args:
        labels: (batch, 1), or one-hot or soft ones of several classes, (batch, classes).
        probabilities: of label 1, (batch, 1), or of each class, (batch, classes).
    """
    from keras import ops

    if probabilities.shape[-1] > 1:
        several = labels.shape[-1] == probabilities.shape[-1]
        labels = ops.argmax(labels, axis=-1) if several else ops.reshape(labels, (-1,))
        equal = ops.equal(ops.cast(labels, "int32"), ops.argmax(probabilities, axis=-1))
        return ops.cast(equal, "float32")
    labels = ops.reshape(labels, ops.shape(probabilities))
    equal = ops.equal(ops.greater(labels, 0.5), ops.greater(probabilities, 0.5))
    return ops.mean(ops.cast(equal, "float32"), axis=-1)


def _in_keras(name: str) -> keras.metrics.Metric:
    import keras

    return keras.metrics.MeanMetricWrapper(agree, name=name)


ACCURACY = Metric(
    about="share of reviews whose label is the most probable one",
    axis="accuracy (fraction, 0 to 1)",
    larger_is_better=True,
    is_share=True,
    measure=_measure,
    in_keras=_in_keras,
    standard_error=standard_error,
    saved_as="accuracy",
)
