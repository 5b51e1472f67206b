"""The interface of a metric, and functions over several metrics.

Logged values are named after the metric in the registry: ``accuracy`` and ``val_accuracy`` of each
epoch, ``best_accuracy`` and ``best_val_accuracy`` of a trial, ``test_accuracy`` of its model.

All metrics get the labels, (n,) whole numbers from 0, and the probabilities: of two labels those of
label 1, (n,); of more classes those of each, (n, classes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imdbtune.config.extensions import METRICS, measured_always

if TYPE_CHECKING:  # reading results takes neither
    import keras
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.integer]

DEFAULT_FORMAT = ".4f"
_PREFIXES = re.compile(r"^(?:best_|confirmed_|test_)?(?:val_)?")
# Whether a model classifies each validation review right, (reviews,) or (epochs, reviews), bool.
CORRECTNESS_FILE = "validation_right.npy"
# Draws of the objective over resampled validation reviews, of imdbtune.models.metrics.bootstrap.
DRAWS_FILE = "validation_draws.npy"


@dataclass(frozen=True)
class Metric:
    """A metric of predicted probabilities; ``val_<name>`` can be the objective of a search."""

    about: str  # in a few words
    axis: str  # label of a figure's axis, with the unit or the limits
    larger_is_better: bool
    measure: Callable[[Labels, Floats], float]
    # Returns Keras's metric object with the given name, which measures the same. Probabilities are
    # (batch, 1); labels may be (batch,), and soft, between 0 and 1. None: ``measure`` computes it
    # from the predictions of the whole epoch, which is exact also where batches have no mean.
    in_keras: Callable[[str], keras.metrics.Metric] | None = None
    # Standard error of a value that was measured on so many reviews. None: no formula is known, and
    # it is estimated from resampled reviews, see imdbtune.models.metrics.bootstrap.
    standard_error: Callable[[float, int], float] | None = None
    saved_as: str = ""  # Keras's own name for it; saved models, which need no imdbtune, have these
    # Whether it is from 0 to 1, the larger the better: a report shows it in percent.
    is_share: bool = False
    format: str = DEFAULT_FORMAT  # of a value
    log_above: float = math.inf  # curves with larger values have a logarithmic axis

    @property
    def label(self) -> str:
        """Its name in sentences and on axes."""
        return self.axis.partition(" (")[0]

    @property
    def title(self) -> str:
        """Its name at the beginning of a title or a sentence."""
        return self.label[:1].upper() + self.label[1:]


def measure(
    labels: Labels, probabilities: Floats, metrics: Mapping[str, Metric] | None = None
) -> dict[str, float]:
    """Return the value of each metric by name.

    Args:
        labels: from 0, (n,).
        probabilities: of label 1, (n,), or of each class, (n, classes).
        metrics: by name; default: those of each search.
    """
    if metrics is None:
        metrics = {name: METRICS[name] for name in measured_always()}
    return {name: metric.measure(labels, probabilities) for name, metric in metrics.items()}


def epoch_names(metrics: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the names of an epoch's values: first of training, then of validation.

    Args:
        metrics: names; default: those of each search.
    """
    names = measured_always() if metrics is None else tuple(metrics)
    return (*names, *(f"val_{name}" for name in names))


def best_names(metrics: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the names of a trial's values: first of validation, then of training.

    Args:
        metrics: names; default: those of each search.
    """
    names = measured_always() if metrics is None else tuple(metrics)
    return (*(f"best_val_{name}" for name in names), *(f"best_{name}" for name in names))


def find_metric(logged: str) -> Metric | None:
    """Return the metric of a logged value such as ``best_val_loss``; ``None`` for other values."""
    name = _PREFIXES.sub("", logged)
    if name not in METRICS:
        return None
    return METRICS[name]


def format_value(logged: str, value: float) -> str:
    """Return a logged value as its metric is printed; others have four decimals."""
    metric = find_metric(logged)
    return format(value, metric.format if metric else DEFAULT_FORMAT)
