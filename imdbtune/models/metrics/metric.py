"""The interface of a metric, and functions over all registered metrics.

Logged values are named after the metric in the registry: ``accuracy`` and ``val_accuracy`` of each
epoch, ``best_accuracy`` and ``best_val_accuracy`` of a trial, ``test_accuracy`` of its model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imdbtune.config.extensions import METRICS

if TYPE_CHECKING:  # reading results takes neither
    import keras
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.integer]

DEFAULT_FORMAT = ".4f"
# Whether a model classifies each validation review right, (reviews,) or (epochs, reviews), bool.
CORRECTNESS_FILE = "validation_right.npy"


@dataclass(frozen=True)
class Metric:
    """A metric of predicted probabilities; ``val_<name>`` can be the objective of a search."""

    about: str  # in a few words
    axis: str  # label of a figure's axis, with the unit or the limits
    larger_is_better: bool
    measure: Callable[[Floats, Labels], float]  # of probabilities of label 1 and labels, (n,) each
    # Returns Keras's metric object with the given name, which measures the same. Probabilities are
    # (batch, 1); labels may be (batch,), and soft, between 0 and 1. None: the loss, which Keras
    # reports by itself.
    in_keras: Callable[[str], keras.metrics.Metric] | None
    # Standard error of a value that was measured on so many reviews; 0: it is not known.
    standard_error: Callable[[float, int], float] = lambda value, reviews: 0.0
    saved_as: str = ""  # Keras's own name for it; saved models, which need no imdbtune, have these
    format: str = DEFAULT_FORMAT  # of a value
    log_above: float = math.inf  # curves with larger values have a logarithmic axis


def measure(probabilities: Floats, labels: Labels) -> dict[str, float]:
    """Return the value of every metric by name.

    Args:
        probabilities: of label 1, (n,).
        labels: 0 or 1, (n,).
    """
    return {name: metric.measure(probabilities, labels) for name, metric in METRICS.items()}


def epoch_names() -> tuple[str, ...]:
    """Return the names of an epoch's values: first of training, then of validation."""
    return (*METRICS, *(f"val_{name}" for name in METRICS))


def best_names() -> tuple[str, ...]:
    """Return the names of a trial's values: first of validation, then of training."""
    return (*(f"best_val_{name}" for name in METRICS), *(f"best_{name}" for name in METRICS))


def find_metric(logged: str) -> Metric | None:
    """Return the metric of a logged value such as ``best_val_loss``; ``None`` for other values."""
    ends = [name for name in METRICS if f"_{logged}".endswith(f"_{name}")]
    return METRICS[max(ends, key=len)] if ends else None


def format_value(logged: str, value: float) -> str:
    """Return a logged value as its metric is printed; others have four decimals."""
    metric = find_metric(logged)
    return format(value, metric.format if metric else DEFAULT_FORMAT)
