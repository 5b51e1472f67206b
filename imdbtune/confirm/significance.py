"""Test which of several configurations are better, each trained with several seeds.

The accuracy of a training is a sum of effects: of the configuration, of the seed, of the sample of
validation reviews, and a residual (this seed is right about this review). All models are evaluated
on the same reviews, so seeds and reviews are crossed, and a difference between configurations
depends only on how differently hard the reviews are for the two.
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
    """95 % confidence interval of a mean accuracy; half widths, NaN below MIN_SEEDS seeds."""

    mean: float
    seeds: float  # for other seeds on these reviews
    reviews: float  # for other reviews with these trainings; never NaN
    both: float  # for other seeds and other reviews


@dataclass(frozen=True)
class Difference:
    """The difference between the leading configuration and another one."""

    name: str  # of the other one
    difference: float  # mean accuracy of the leading one minus that of the other
    error: float  # standard error of the difference
    p: float  # corrected for the number of configurations, of which the leading one is the best
    largest: float  # upper limit of the difference, one-sided at LEVEL for all together

    @property
    def is_significant(self) -> bool:
        """Whether the two differ significantly at ``LEVEL``."""
        return self.p < LEVEL


@dataclass(frozen=True)
class _Part:
    """One estimated part of the variance of a mean."""

    value: float
    degrees: float  # of freedom


def _variance(share: npt.NDArray[np.float64], repeated: Sequence[Repeats]) -> _Part:
    """Return the variance of a mean accuracy, or of a difference between two, of crossed effects.

    The variance between the reviews, after averaging over seeds, and the variance between the seeds
    both contain the residual, so it is subtracted once. The degrees of freedom are those of
    Satterthwaite (1946).

    Args:
        share: (reviews,), the mean over seeds for each review, or the difference of two.
        repeated: the configurations that it is made from.
    """
    reviews = len(share)
    over_reviews = _Part(float(share.var(ddof=1)) / reviews, reviews - 1)
    over_seeds, residuals = [], []
    for each in repeated:
        seeds = len(each.correct)
        if seeds > 1:
            over_seeds.append(_Part(each.spread**2 / seeds, seeds - 1))
            residuals.append(_residual(each.correct))
    parts = [over_reviews, *over_seeds]
    between_seeds = sum(part.value for part in over_seeds)
    value = over_reviews.value + between_seeds - sum(part.value for part in residuals)
    value = max(value, over_reviews.value, between_seeds)  # no part is negative
    squares = sum(part.value**2 / part.degrees for part in [*parts, *residuals])
    return _Part(value, value**2 / squares if squares else math.inf)


def _residual(correct: Correctness) -> _Part:
    """Return the residual's part of the variance of a mean over seeds and reviews."""
    seeds, reviews = correct.shape
    by_seed, by_review = correct.mean(axis=1, keepdims=True), correct.mean(axis=0)
    rest = correct - by_seed - by_review + correct.mean()
    degrees = (seeds - 1) * (reviews - 1)
    return _Part(float((rest**2).sum()) / degrees / correct.size, degrees)


def interval(repeats: Repeats) -> Interval:
    """Return the interval: Student's t, the normal approximation over reviews alone."""
    from scipy import stats

    seeds, reviews = repeats.correct.shape
    share = repeats.correct.mean(axis=0)
    over_reviews = stats.norm.ppf(1 - LEVEL / 2) * share.std(ddof=1) / math.sqrt(reviews)
    if seeds < MIN_SEEDS:
        return Interval(repeats.mean, math.nan, float(over_reviews), math.nan)
    over_seeds = stats.t.ppf(1 - LEVEL / 2, seeds - 1) * repeats.spread / math.sqrt(seeds)
    total = _variance(share, [repeats])
    both = stats.t.ppf(1 - LEVEL / 2, total.degrees) * math.sqrt(total.value)
    return Interval(repeats.mean, float(over_seeds), float(over_reviews), float(both))


def compare(leader: Repeats, other: Repeats, configurations: int = 2) -> Difference:
    """Return the test of the difference between two configurations, over seeds and reviews.

    Because the data choose which configuration leads, its differences from the others are tested
    as all pairs are: by Tukey's studentised range, with a variance for each pair (Games and Howell
    1976). With two configurations it is Welch's t test.

    Args:
        leader: the configuration with the best mean.
        other: another one.
        configurations: number of all that are compared.
    """
    from scipy import stats

    difference = leader.mean - other.mean
    paired = leader.correct.mean(axis=0) - other.correct.mean(axis=0)
    variance = _variance(paired, [leader, other])
    if not variance.value:
        return Difference(other.name, difference, 0.0, 0.0 if difference else 1.0, difference)
    error = math.sqrt(variance.value)
    range_of_all = math.sqrt(2) * abs(difference) / error
    p = stats.studentized_range.sf(range_of_all, configurations, variance.degrees)
    level = LEVEL / (configurations - 1)  # Bonferroni
    largest = difference + stats.t.ppf(1 - level, variance.degrees) * error
    return Difference(other.name, difference, error, float(p), float(largest))


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
    differences = tuple(compare(leader, other, len(order)) for other in order[1:])
    spread_known = all(len(each.correct) > 1 for each in order)
    if not spread_known:
        differences = tuple(dataclasses.replace(each, p=1.0) for each in differences)
    close = {each.name for each in differences if spread_known and each.largest <= MARGIN}
    candidates = [leader, *(each for each in order[1:] if each.name in close)]
    cheapest = min(candidates, key=lambda each: each.cost)
    intervals = tuple(interval(each) for each in order)
    return Ranking(tuple(order), intervals, differences, cheapest.name)
