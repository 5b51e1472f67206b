"""Test which of several configurations are better, each trained with several seeds.

A validation accuracy varies with the seed of the training and with the sample of validation
reviews. All models are evaluated on the same reviews, so only the variance of the paired
differences counts towards the error of a difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.05  # significance level of all comparisons together; 1 - LEVEL: confidence level
# A cheaper configuration is recommended if its mean is shown to be at most this much lower.
MARGIN = 0.005
# With fewer seeds Student's t is so wide that an interval says nothing.
MIN_SEEDS = 3

Correctness = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Repeats:
    """One configuration, trained with several seeds.

    Args:
        name: of the configuration.
        correct: (seeds, reviews), whether each model's prediction of each review is correct.
        cost: seconds of one training.
    """

    name: str
    correct: Correctness
    cost: float

    @property
    def accuracies(self) -> npt.NDArray[np.float64]:
        """Accuracy of each seed: (seeds,)."""
        return np.asarray(self.correct.mean(axis=1), np.float64)

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return float(self.accuracies.mean())

    @property
    def spread(self) -> float:
        """Standard deviation between seeds; NaN with one seed."""
        return float(self.accuracies.std(ddof=1)) if len(self.correct) > 1 else math.nan


@dataclass(frozen=True)
class Interval:
    """95 % confidence interval of a mean accuracy."""

    mean: float
    seeds: float  # half width for other seeds on these reviews; NaN below MIN_SEEDS seeds
    reviews: float  # half width for other reviews with these trainings

    @property
    def both(self) -> float:
        """Half width for other seeds and other reviews."""
        return math.hypot(self.seeds, self.reviews)


@dataclass(frozen=True)
class Difference:
    """The difference between the leading configuration and another one."""

    name: str  # of the other one
    difference: float  # mean accuracy of the leading one minus that of the other
    error: float  # standard error of the difference
    p: float  # two-sided p value, after Holm's correction
    largest: float  # upper limit of the difference, one-sided at LEVEL

    @property
    def is_significant(self) -> bool:
        """Whether the two differ significantly at ``LEVEL``."""
        return self.p < LEVEL


def interval(repeats: Repeats) -> Interval:
    """Return the interval: Student's t over seeds, the normal approximation over reviews."""
    from scipy import stats

    seeds, reviews = repeats.correct.shape
    over_seeds = math.nan
    if seeds >= MIN_SEEDS:
        over_seeds = stats.t.ppf(1 - LEVEL / 2, seeds - 1) * repeats.spread / math.sqrt(seeds)
    share = repeats.correct.mean(axis=0)
    over_reviews = stats.norm.ppf(1 - LEVEL / 2) * share.std(ddof=1) / math.sqrt(reviews)
    return Interval(repeats.mean, float(over_seeds), float(over_reviews))


def compare(leader: Repeats, other: Repeats) -> Difference:
    """Return a t test of the difference between two configurations, over seeds and reviews.

    The variance of the difference has three parts: the variance between the seeds of either
    configuration, and the variance of the paired differences between the reviews. The last includes
    a little of the first two, so the test is conservative. The degrees of freedom are those of
    Welch and Satterthwaite.
    """
    from scipy import stats

    difference = leader.mean - other.mean
    paired = leader.correct.mean(axis=0) - other.correct.mean(axis=0)
    parts = [(float(paired.var(ddof=1)) / len(paired), len(paired) - 1)]
    for each in (leader, other):
        count = len(each.correct)
        if count > 1:
            parts.append((each.spread**2 / count, count - 1))
    variance = sum(part for part, _ in parts)
    if not variance:
        return Difference(other.name, difference, 0.0, 0.0 if difference else 1.0, difference)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    p = 2 * stats.t.sf(abs(difference) / error, freedom)
    largest = difference + stats.t.ppf(1 - LEVEL, freedom) * error
    return Difference(other.name, difference, error, float(p), float(largest))


def holm(values: Sequence[float]) -> list[float]:
    """Return p values with Holm's correction (1979) for the number of tests, in the given order."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class Ranking:
    """Configurations by their mean accuracy, with the tests between them.

    Args:
        order: the configurations, the best mean first.
        intervals: of each, in that order.
        differences: of the first from each of the others.
        recommended: name of the cheapest of those shown to be at most ``MARGIN`` worse than the
            first; the first itself if none is.
    """

    order: tuple[Repeats, ...]
    intervals: tuple[Interval, ...]
    differences: tuple[Difference, ...]
    recommended: str

    @property
    def indistinguishable(self) -> tuple[str, ...]:
        """The first configuration and all that are not significantly worse."""
        others = (each.name for each in self.differences if not each.is_significant)
        return (self.order[0].name, *others)


def rank_configurations(repeated: Sequence[Repeats]) -> Ranking:
    """Rank configurations by their mean accuracy and test their differences from the first.

    That a difference is not significant does not show that two configurations are equally good:
    with few seeds, large differences are not significant. So a cheaper one is recommended only if
    a test of non-inferiority shows that it is at most ``MARGIN`` worse.

    If one has fewer than two seeds, no difference is significant and the first is recommended: the
    spread is unknown.
    """
    order = sorted(repeated, key=lambda each: -each.mean)
    leader = order[0]
    tests = [compare(leader, other) for other in order[1:]]
    spread_known = all(len(each.correct) > 1 for each in order)
    p_values = holm([each.p for each in tests]) if spread_known else [1.0] * len(tests)
    differences = tuple(
        dataclasses.replace(each, p=p) for each, p in zip(tests, p_values, strict=True)
    )
    close = {each.name for each in differences if spread_known and each.largest <= MARGIN}
    candidates = [leader, *(each for each in order[1:] if each.name in close)]
    cheapest = min(candidates, key=lambda each: each.cost)
    intervals = tuple(interval(each) for each in order)
    return Ranking(tuple(order), intervals, differences, cheapest.name)
