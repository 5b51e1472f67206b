"""Weights of a mix: of the networks' mean logit, and of the linear model's logit.

A mix is logistic regression on these two, without an intercept and with weights that are not
negative (Breiman 1996, "Stacked Regressions"). One weight for each network instead gave a higher
loss on IMDB, as the networks are too similar to be told apart. The weights are fitted to reviews on
which no model was trained. Measured on the same reviews, the mix would be flattered; so the reviews
are divided into ``FOLDS`` parts, and weights that were fitted to the other parts mix each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

FOLDS = 5
EPSILON = 1e-6  # probabilities are clipped to this distance from 0 and 1
NAMES = ("weight_networks", "weight_linear")

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer]


def fit_weights(logits: Floats, labels: Labels) -> Floats:
    """Return the weights, (models,), none negative.

    They minimise the logistic loss, summed over the reviews, plus half the squared distance from
    equal weights, which matters only where the reviews do not determine the weights.

    Args:
        logits: (reviews, models), from :func:`logits_of_mix`.
        labels: 0 or 1, (reviews,).
    """
    from scipy.optimize import minimize

    signed = np.where(labels[:, None] == 1, logits, -logits)
    equal = np.full(logits.shape[1], 1 / logits.shape[1])

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = signed @ weights
        distance = weights - equal
        # The derivative of log(1 + exp(-m)) is -1 / (1 + exp(m)), here computed without overflow.
        slopes = -np.exp(-np.logaddexp(0, margins))
        value = np.logaddexp(0, -margins).sum() + distance @ distance / 2
        return float(value), signed.T @ slopes + distance

    bounds = [(0, None)] * logits.shape[1]
    found = minimize(loss, equal, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, np.float64)


def cross_fitted(logits: Floats, labels: Labels) -> Floats:
    """Return the probability of label 1 of each review, (reviews,), by weights fitted to others.

    Arguments are those of :func:`fit_weights`.
    """
    fold = np.arange(len(labels)) % FOLDS
    result = np.empty(len(labels))
    for number in range(FOLDS):
        others = fold != number
        weights = fit_weights(logits[others], labels[others])
        result[~others] = mix(logits[~others], weights)
    return result


def mix(logits: Floats, weights: Floats) -> Floats:
    """Return the probabilities, (reviews,), of logits (reviews, models)."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits @ weights)), np.float64)


def logits_of_mix(networks: Sequence[Floats], linear: Floats) -> Floats:
    """Return the networks' mean logit and the linear model's logit of reviews, (reviews, 2).

    Args:
        networks: the probabilities of each, (reviews,).
        linear: the probabilities of the linear model, (reviews,).
    """
    clipped = np.clip([*networks, linear], EPSILON, 1 - EPSILON)
    logits = np.log(clipped / (1 - clipped))
    return np.stack([logits[:-1].mean(axis=0), logits[-1]], axis=1)


def as_metrics(weights: Floats) -> dict[str, float]:
    """Return the two weights as they are logged."""
    return dict(zip(NAMES, map(float, weights), strict=True))


def from_metrics(metrics: Mapping[str, float]) -> tuple[float, ...]:
    """Return the two weights among the metrics of a run; () without any."""
    return tuple(metrics[name] for name in NAMES) if metrics.keys() >= {*NAMES} else ()
