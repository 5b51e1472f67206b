"""How a metric would vary from sample to sample of reviews, by the bootstrap (Efron 1979).

All models that are measured on the same reviews are measured on the same resamples. So the draws of
two models vary together as their values would, and their differences have paired errors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imdbtune.errors import UserError

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Labels, Metric

DRAWS = 200  # the standard error is then within some 5 % of that of endless draws
SEED = 17


def resample(metric: Metric, labels: Labels, probabilities: Floats) -> Floats:
    """Return draws of a metric, (DRAWS,), scaled like the values of single reviews.

    Their mean is the metric of all reviews, and their variance divided by their number is that of
    the metric, as if the metric were the mean over so many reviews. So statistics of means, such as
    those of the accuracy, hold for them as well. Resamples on which the metric has no value, such
    as those with one label only, count as its mean.
    """
    import numpy as np

    value, count = metric.measure(labels, probabilities), len(labels)
    rng = np.random.default_rng([SEED, count])
    drawn = np.full(DRAWS, math.nan)
    for number in range(DRAWS):
        rows = rng.integers(0, count, count)
        try:
            drawn[number] = metric.measure(labels[rows], probabilities[rows])
        except UserError:  # of the user's own metric
            continue
    known = np.isfinite(drawn)
    if not known.any():
        return np.full(DRAWS, value)
    deviations = np.where(known, drawn - drawn[known].mean(), 0.0)
    scaled: Floats = value + math.sqrt(DRAWS) * deviations
    return scaled


def standard_error(draws: Floats) -> float:
    """Return the standard error of a metric, from its scaled draws."""
    return float(draws.std(ddof=1) / math.sqrt(len(draws)))
