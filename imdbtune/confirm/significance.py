"""Test which of several configurations are better, each trained with several seeds.

The accuracy of a training is a sum of effects: of the configuration, of the seed, of the sample of
validation reviews, and a residual (this seed is right about this review). All models are evaluated
on the same reviews, so seeds and reviews are crossed, and a difference between configurations
depends only on how differently hard the reviews are for the two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imdbtune.confirm.rule import DEFAULT_RULE, LEVEL, Rule
from imdbtune.training.spec import Gains

# With fewer seeds Student's t is so wide that an interval says nothing.
MIN_SEEDS = 3
MAX_SEEDS = 100  # a larger number is not recommended to anybody


@dataclass(frozen=True)
class Repeats:
    """One configuration, trained with several seeds.

    Args:
        name: of the configuration.
        values: (seeds, reviews), whether each model's prediction of each review is correct; or
            (seeds, draws) of another metric, see :mod:`imdbtune.models.metrics.bootstrap`, which
            have the same statistics. Larger values are better.
        cost: seconds of one training, or what else the cheapest is chosen by.
    """

    name: str
    values: Gains
    cost: float

    @property
    def means(self) -> npt.NDArray[np.float64]:
        """Accuracy, or another metric, of each seed: (seeds,)."""
        return np.asarray(self.values.mean(axis=1), np.float64)

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return float(self.means.mean())

    @property
    def spread(self) -> float:
        """Standard deviation between seeds; NaN with one seed."""
        return float(self.means.std(ddof=1)) if len(self.values) > 1 else math.nan


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
    is_significant: bool


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
        seeds = len(each.values)
        if seeds > 1:
            over_seeds.append(_Part(each.spread**2 / seeds, seeds - 1))
            residuals.append(_residual(each.values))
    parts = [over_reviews, *over_seeds]
    between_seeds = sum(part.value for part in over_seeds)
    value = over_reviews.value + between_seeds - sum(part.value for part in residuals)
    value = max(value, over_reviews.value, between_seeds)  # no part is negative
    squares = sum(part.value**2 / part.degrees for part in [*parts, *residuals])
    return _Part(value, value**2 / squares if squares else math.inf)


def _residual(values: Gains) -> _Part:
    """Return the residual's part of the variance of a mean over seeds and reviews."""
    seeds, reviews = values.shape
    by_seed, by_review = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    rest = values - by_seed - by_review + values.mean()
    degrees = (seeds - 1) * (reviews - 1)
    return _Part(float((rest**2).sum()) / degrees / values.size, degrees)


def interval(repeats: Repeats) -> Interval:
    """Return the interval: Student's t, the normal approximation over reviews alone."""
    from scipy import stats

    seeds, reviews = repeats.values.shape
    share = repeats.values.mean(axis=0)
    over_reviews = stats.norm.ppf(1 - LEVEL / 2) * share.std(ddof=1) / math.sqrt(reviews)
    if seeds < MIN_SEEDS:
        return Interval(repeats.mean, math.nan, float(over_reviews), math.nan)
    over_seeds = stats.t.ppf(1 - LEVEL / 2, seeds - 1) * repeats.spread / math.sqrt(seeds)
    total = _variance(share, [repeats])
    both = stats.t.ppf(1 - LEVEL / 2, total.degrees) * math.sqrt(total.value)
    return Interval(repeats.mean, float(over_seeds), float(over_reviews), float(both))


def compare(
    leader: Repeats, other: Repeats, configurations: int = 2, level: float = LEVEL
) -> Difference:
    """Return the test of the difference between two configurations, over seeds and reviews.

    Because the data choose which configuration leads, its differences from the others are tested
    as all pairs are: by Tukey's studentised range, with a variance for each pair (Games and Howell
    1976). With two configurations it is Welch's t test.

    Args:
        leader: the configuration with the best mean.
        other: another one.
        configurations: number of all that are compared.
        level: of significance.
    """
    from scipy import stats

    difference = leader.mean - other.mean
    variance = _variance_of_difference(leader, other)
    error = math.sqrt(variance.value)
    if not error:
        return Difference(other.name, difference, 0.0, float(not difference), bool(difference))
    scaled = math.sqrt(2) * abs(difference) / error
    p = float(stats.studentized_range.sf(scaled, configurations, variance.degrees))
    return Difference(other.name, difference, error, p, p < level)


@dataclass(frozen=True)
class Change:
    """The difference between two configurations that were chosen before it was measured."""

    difference: float  # mean accuracy of the new one minus that of the old one
    half_width: float  # of its 95 % interval, for other seeds and other reviews

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval is below zero: the new one is significantly worse."""
        return self.difference + self.half_width < 0

    @property
    def is_better(self) -> bool:
        """Whether the whole interval is above zero: the new one is significantly better."""
        return self.difference - self.half_width > 0


def change_between(old: Repeats, new: Repeats) -> Change:
    """Return the difference of two configurations; one with a single seed is a fixed model."""
    from scipy import stats

    variance = _variance_of_difference(new, old)
    quantile = float(stats.t.ppf(1 - LEVEL / 2, variance.degrees))
    return Change(new.mean - old.mean, quantile * math.sqrt(variance.value))


def _variance_of_difference(one: Repeats, other: Repeats) -> _Part:
    paired = one.values.mean(axis=0) - other.values.mean(axis=0)
    return _variance(paired, [one, other])


def _is_within(one: Repeats, other: Repeats, margin: float, level: float) -> bool:
    """Return whether ``one`` is shown to be at most ``margin`` worse, by a one-sided t test."""
    from scipy import stats

    variance = _variance_of_difference(one, other)
    limit = stats.t.ppf(1 - level, variance.degrees) * math.sqrt(variance.value)
    return bool(other.mean - one.mean + limit <= margin)


@dataclass(frozen=True)
class Ranking:
    """Configurations by their mean accuracy, with the tests between them.

    Args:
        order: the configurations, the best mean first.
        intervals: of each, in that order.
        differences: of the first from each of the others.
        recommended: name of the cheapest of those shown to be at most the margin worse than any
            other; the first if none is.
        is_shown: whether the recommended one is shown to be.
        undecided: names of the configurations of which more trainings could change what is
            recommended; empty: nothing is left to decide.
        more_seeds: of each of these, so that the recommended one can be shown to be as good, if all
            means stay as they are; 0: nothing is undecided, or no number of seeds is enough.
    """

    order: tuple[Repeats, ...]
    intervals: tuple[Interval, ...]
    differences: tuple[Difference, ...]
    recommended: str
    is_shown: bool
    undecided: tuple[str, ...]
    more_seeds: int

    @property
    def indistinguishable(self) -> tuple[str, ...]:
        """The first configuration and all that are not significantly worse."""
        others = (each.name for each in self.differences if not each.is_significant)
        return (self.order[0].name, *others)


def rank_configurations(repeated: Sequence[Repeats], rule: Rule = DEFAULT_RULE) -> Ranking:
    """Rank configurations by their mean accuracy and test their differences.

    That a difference is not significant does not show that two configurations are equally good:
    with few seeds, large differences are not significant. So a configuration is recommended for
    being cheap only if tests of non-inferiority against each of the others show that it is at most
    the margin worse (multiple comparisons with the best, Hsu 1984, with Bonferroni's limits).

    If one has fewer than two seeds, the spread is unknown: no difference is significant, nothing is
    shown, and the first is recommended.
    """
    order = sorted(repeated, key=lambda each: -each.mean)
    leader, count = order[0], len(order)
    differences = [compare(leader, other, count, rule.level) for other in order[1:]]
    if all(len(each.values) > 1 for each in order):
        shown = [each for each in order if _is_close_to_all(each, order, rule)]
    else:
        differences = [
            dataclasses.replace(each, p=1.0, is_significant=False) for each in differences
        ]
        shown = []
    recommended = min(shown, key=lambda each: each.cost, default=leader)
    worse = {each.name for each in differences if each.is_significant}
    undecided = tuple(_undecided(order, recommended, worse, rule))
    rivals = [each for each in order if each.name in undecided and each is not recommended]
    return Ranking(
        tuple(order),
        tuple(interval(each) for each in order),
        tuple(differences),
        recommended.name,
        bool(shown),
        undecided,
        _more_seeds(recommended, rivals, rule, rule.level / max(1, count - 1)),
    )


def _is_close_to_all(one: Repeats, repeated: Sequence[Repeats], rule: Rule) -> bool:
    """Return whether one is shown to be at most the margin worse than each of the others."""
    others = [each for each in repeated if each is not one]
    level = rule.level / max(1, len(others))
    return all(_is_within(one, other, rule.margin, level) for other in others)


def _undecided(
    order: Sequence[Repeats], recommended: Repeats, worse: Collection[str], rule: Rule
) -> Iterator[str]:
    """Yield the names of the configurations that need more trainings.

    Of those that are not significantly worse than the first, a cheaper one may be shown to be as
    good as the recommended one, and any other to be better than it by more than the margin.
    """
    level = rule.level / max(1, len(order) - 1)
    rivals = [
        each
        for each in order
        if each is not recommended
        and each.name not in worse
        and (each.cost < recommended.cost or not _is_within(recommended, each, rule.margin, level))
    ]
    if rivals:
        yield from dict.fromkeys([recommended.name, order[0].name, *(r.name for r in rivals)])


def _more_seeds(recommended: Repeats, rivals: Sequence[Repeats], rule: Rule, level: float) -> int:
    """Return how many more seeds would show that one is at most the margin worse than its rivals.

    The variance between the reviews stays as it is, the others fall with the number of seeds.
    """
    from scipy import stats

    needed = 0
    for rival in rivals:
        seeds = min(len(recommended.values), len(rival.values))
        if seeds < 2:
            return 0
        room = (rule.margin - (rival.mean - recommended.mean)) / stats.norm.ppf(1 - level)
        between_seeds = sum(each.spread**2 / len(each.values) for each in (recommended, rival))
        rest = room**2 - (_variance_of_difference(recommended, rival).value - between_seeds)
        if room <= 0 or rest <= 0 or seeds * between_seeds > MAX_SEEDS * rest:
            return 0
        needed = max(needed, math.ceil(seeds * between_seeds / rest) - seeds)
    return max(needed, 1) if rivals else 0
