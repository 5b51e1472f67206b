"""Which of several models are better, each trained with several seeds: the test, as numbers.

Two things move a validation accuracy: the seed of the training, and which reviews happen to be in
the validation set. All models are measured on the same reviews, so that of the second only what
does not go up and down together counts against a difference between two of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.05  # of the test over all comparisons together, and 1 - coverage of the intervals

Answers = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Repeats:
    """One configuration, trained with several seeds.

    Args:
        name: of the configuration.
        right: (seeds, reviews), whether each training's model is right about each review.
        cost: what one training takes, in seconds: the cheapest of equals is recommended.
    """

    name: str
    right: Answers
    cost: float

    @property
    def accuracies(self) -> npt.NDArray[np.float64]:
        """(seeds,)."""
        return np.asarray(self.right.mean(axis=1), np.float64)

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.accuracies.mean())

    @property
    def spread(self) -> float:
        """Standard deviation between seeds; not a number with one seed."""
        return float(self.accuracies.std(ddof=1)) if len(self.right) > 1 else math.nan


@dataclass(frozen=True)
class Interval:
    """Of 95 %, around a mean accuracy."""

    mean: float
    seeds: float  # half its width for other seeds, on these reviews
    reviews: float  # half its width for other reviews, with these trainings

    @property
    def both(self) -> float:
        """Half its width for other seeds and other reviews."""
        return math.hypot(self.seeds, self.reviews)


@dataclass(frozen=True)
class Comparison:
    """The leading configuration and another one."""

    name: str
    difference: float  # mean accuracy of the leading one less that of this one
    error: float  # standard error of the difference
    p: float  # of a difference like this or larger if there is none, after Holm's correction

    @property
    def alike(self) -> bool:
        """Whether the two cannot be told apart at ``LEVEL``."""
        return not self.p < LEVEL


def interval(repeats: Repeats) -> Interval:
    """Student's t over the seeds; the normal approximation over the reviews."""
    from scipy import stats

    seeds, reviews = repeats.right.shape
    over_seeds = math.nan
    if seeds > 1:
        over_seeds = stats.t.ppf(1 - LEVEL / 2, seeds - 1) * repeats.spread / math.sqrt(seeds)
    share = repeats.right.mean(axis=0)
    over_reviews = stats.norm.ppf(1 - LEVEL / 2) * share.std(ddof=1) / math.sqrt(reviews)
    return Interval(repeats.mean, float(over_seeds), float(over_reviews))


def compare(leader: Repeats, other: Repeats) -> Comparison:
    """A t test of the difference between two configurations, on other seeds and other reviews.

    The variance of the difference is the sum of three parts: that between the seeds of either,
    and that of the paired differences between the reviews, which is all that a shared validation
    set leaves of the reviews' part. The last holds a little of the first two, which errs on the
    careful side. Degrees of freedom are Welch and Satterthwaite's.
    """
    from scipy import stats

    difference = leader.mean - other.mean
    paired = leader.right.mean(axis=0) - other.right.mean(axis=0)
    parts = [(float(paired.var(ddof=1)) / len(paired), len(paired) - 1)]
    for each in (leader, other):
        count = len(each.right)
        if count > 1:
            parts.append((each.spread**2 / count, count - 1))
    variance = sum(part for part, _ in parts)
    if not variance:
        return Comparison(other.name, difference, 0.0, 0.0 if difference else 1.0)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    error = math.sqrt(variance)
    p = 2 * stats.t.sf(abs(difference) / error, freedom)
    return Comparison(other.name, difference, error, float(p))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of p values for the number of tests; in the order given."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class Verdict:
    """What repeated trainings say.

    Args:
        order: the configurations, the best mean first.
        intervals: of each, in that order.
        comparisons: of the first with each of the others.
        recommended: name of the cheapest of those that cannot be told from the first.
    """

    order: tuple[Repeats, ...]
    intervals: tuple[Interval, ...]
    comparisons: tuple[Comparison, ...]
    recommended: str

    @property
    def alike(self) -> tuple[str, ...]:
        """The first and all that cannot be told from it."""
        same = (c.name for c in self.comparisons if c.alike)
        return (self.order[0].name, *same)


def judge(repeated: Sequence[Repeats]) -> Verdict:
    """Order configurations by their mean accuracy, and tell which are really different.

    With fewer than two seeds nothing can be told apart: the spread between seeds is not known.
    """
    order = sorted(repeated, key=lambda each: -each.mean)
    leader = order[0]
    found = [compare(leader, other) for other in order[1:]]
    known = all(len(each.right) > 1 for each in order)
    corrected = holm([c.p for c in found]) if known else [1.0] * len(found)
    comparisons = tuple(
        Comparison(c.name, c.difference, c.error, p) for c, p in zip(found, corrected, strict=True)
    )
    costs: Mapping[str, float] = {each.name: each.cost for each in order}
    alike = [leader.name, *(c.name for c in comparisons if c.alike)]
    cheapest = min(alike, key=lambda name: costs[name])
    return Verdict(tuple(order), tuple(interval(each) for each in order), comparisons, cheapest)
