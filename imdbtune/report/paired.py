"""Statistics of models whose predictions of the same validation reviews are known.

A review that is hard for one model is hard for the others. So the accuracies of several models vary
together from sample to sample, and a difference between two has a smaller error than it would have
on two samples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from imdbtune.models.metrics.bootstrap import standard_error
from imdbtune.report.findings import Uncertainty
from imdbtune.tracking.predictions import nearest_epoch
from imdbtune.training.spec import Correctness, Floats, Gains

LEVEL = 0.05
DRAWS = 400  # of the errors of all models
CONTENDERS = 2.0  # models within this many critical differences of the best could have won


def uncertainty_data(accuracies: Sequence[float], rights: Sequence[Correctness]) -> Uncertainty:
    """Return the uncertainty of the first trial's accuracy.

    Args:
        accuracies: of all trials, the chosen one first.
        rights: (epochs, reviews), whether each trial classifies each review right; of all trials,
            or of the first ones.
    """
    known = zip(rights, accuracies, strict=False)
    best = np.array([nearest_epoch(right, accuracy) for right, accuracy in known])
    gaps = accuracies[0] - best.mean(axis=1)
    return Uncertainty(
        accuracies[0],
        reviews=best.shape[1],
        trials=len(accuracies),
        indistinguishable=max(int((gaps <= critical_differences(best, 0)).sum()), 1),
        selection_bias=excess_of_the_best(np.concatenate(rights)),
        is_paired=True,
    )


def uncertainty_of_draws(
    values: Sequence[float], draws: Sequence[Floats], reviews: int
) -> Uncertainty:
    """Return the uncertainty of the first trial's metric, from the draws of all trials.

    Args:
        values: of all trials, the chosen one first.
        draws: (draws,) of each, see :mod:`imdbtune.models.metrics.bootstrap`.
        reviews: on which they were measured.
    """
    drawn = np.array(draws)
    gaps = values[0] - drawn.mean(axis=1)
    return Uncertainty(
        values[0],
        reviews=reviews,
        trials=len(values),
        indistinguishable=max(int((gaps <= critical_differences(drawn, 0)).sum()), 1),
        selection_bias=excess_of_the_best(drawn),
        is_paired=True,
        error=standard_error(drawn[0]),
    )


def critical_differences(right: Gains, best: int) -> Floats:
    """Return by how much less accurate each model must be to be significantly worse: (models,).

    Because the data choose which model is the best, its differences from the others are tested as
    all pairs are, by Tukey's studentised range, each with its own paired error.

    Args:
        right: (models, reviews), whether each is classified right; or (models, draws).
        best: index of the best model.
    """
    models, reviews = right.shape
    if models < 2:
        return np.zeros(models)
    differences = right[best].astype(np.float64) - right.astype(np.float64)
    errors = differences.std(axis=1, ddof=1) / math.sqrt(reviews)
    return np.asarray(_quantile(models) * errors, np.float64)


@functools.cache
def _quantile(models: int) -> float:
    """Return by how many standard errors two of so many equal models may differ."""
    from scipy import stats

    return float(stats.studentized_range.ppf(1 - LEVEL, models, np.inf)) / math.sqrt(2)


def excess_of_the_best(right: Gains, seed: int = 0) -> float:
    """Return by how much the best accuracy is expected to exceed the true one of its model.

    The joint errors of all models are drawn from the normal distribution with the covariance of
    their predictions. The true accuracies are estimated by shrinking those of the contenders to
    their mean, by the share of their variance that is error (Efron and Morris 1975), so that models
    that are equally good do not count as different. The excess is the mean error of the model that
    wins.

    Args:
        right: (models, reviews), whether each is classified right; the epochs from which each
            trial's best was chosen are models, too.
        seed: of the errors.
    """
    accuracies = right.mean(axis=1)
    best = int(accuracies.argmax())
    critical = critical_differences(right, best)
    contenders = accuracies[best] - accuracies <= CONTENDERS * critical
    if contenders.sum() < 2:
        return 0.0
    values, reviews = accuracies[contenders], right.shape[1]
    deviations = right[contenders] - values[:, None]
    drawn = np.random.default_rng(seed).standard_normal((DRAWS, reviews)) / reviews
    errors = drawn @ deviations.T
    own = errors - errors.mean(axis=1, keepdims=True)  # what the models do not have in common
    noise = float(own.var(axis=1, ddof=1).mean())
    real = max(float(values.var(ddof=1)) - noise, 0.0)
    shrunk = values.mean() + (values - values.mean()) * (real / (real + noise) if noise else 1.0)
    winners = (shrunk + errors).argmax(axis=1)
    return max(float(errors[np.arange(len(errors)), winners].mean()), 0.0)
