"""What a search has found out, as numbers: nothing here draws, writes or asks MLflow.

The measure is validation accuracy throughout, whatever the search optimised: it is a share of a
known number of reviews, so its error is known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from imdbtune.tracking import writer
from imdbtune.tracking.reader import Baseline, Trial

ACCURACY = "best_val_accuracy"
SURE = NormalDist().inv_cdf(0.975)  # standard errors on each side of a 95 % interval


def accuracy(trial: Trial) -> float | None:
    """The validation accuracy of a finished trial, where it has one."""
    value = trial.metrics.get(ACCURACY, math.nan)
    return value if trial.status == "FINISHED" and 0 <= value <= 1 else None


def measured(trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
    """The trials that have an accuracy, in the order given."""
    found = [(trial, accuracy(trial)) for trial in trials]
    return [(trial, value) for trial, value in found if value is not None]


@dataclass(frozen=True)
class Certainty:
    """How far one accuracy out of many can be believed."""

    accuracy: float
    reviews: int  # that it was measured on
    trials: int  # that it was chosen from
    alike: int  # trials, the best among them, that cannot be told from the best
    flattery: float  # how much too high the best of those reads if they are equally good

    @property
    def standard_error(self) -> float:
        """Of one accuracy that was not chosen: sqrt(p (1 - p) / n)."""
        return standard_error(self.accuracy, self.reviews)

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return SURE * self.standard_error


def standard_error(share: float, count: int) -> float:
    """The sampling error of a share of ``count`` reviews; none is known of what is no share."""
    return math.sqrt(share * (1 - share) / count) if count and 0 <= share <= 1 else math.nan


def certainty_data(accuracies: Sequence[float], chosen: float, reviews: int) -> Certainty:
    """Certainty of ``chosen``, out of ``accuracies`` on the same ``reviews``.

    Two trials are alike if they differ by less than 1.96 standard errors of a difference. As all
    are measured on the same reviews, that errs on the careful side.
    """
    own = standard_error(chosen, reviews)
    alike = sum(
        chosen - other <= SURE * math.hypot(own, standard_error(other, reviews))
        for other in accuracies
    )
    return Certainty(chosen, reviews, len(accuracies), alike, expected_maximum(alike) * own)


def expected_maximum(count: int) -> float:
    """About the mean of the largest of ``count`` standard normal numbers (Blom 1958)."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


@dataclass(frozen=True)
class BaselineComparison:
    """What a linear model reaches on the validation reviews, and the winner beside it."""

    run_id: str  # of the linear model
    accuracy: float
    seconds: float  # of its training
    ahead: float | None  # how much higher the winner's accuracy is; None without a winner
    within_chance: bool  # less than 1.96 standard errors of a difference apart

    @property
    def stands(self) -> str:
        """The verb between the winner and it."""
        if self.within_chance:
            return "cannot be told from"
        return "beats" if (self.ahead or 0.0) > 0 else "is beaten by"

    @property
    def verdict(self) -> str:
        """How the winner stands to it, in words; empty without a winner."""
        if self.ahead is None:
            return ""
        points = abs(self.ahead) * 100
        where = "above" if self.ahead > 0 else "below"
        apart = "level with it" if points < 0.05 else f"{points:.1f} points {where} it"
        return f"the winner is {apart}{', which may be chance' if self.within_chance else ''}"

    def __str__(self) -> str:
        reached = (
            f"a linear model on word pairs reaches {self.accuracy:.4f} in {self.seconds:.0f} s"
        )
        return f"{reached}: {self.verdict}" if self.verdict else reached


def compare_with_baseline(
    baselines: Sequence[Baseline], trials: Sequence[Trial], reviews: int
) -> BaselineComparison | None:
    """The linear model of a search, if it has one that has finished, beside its first trial.

    Args:
        trials: ranked; only the first one counts.
        reviews: on which both are measured.
    """
    linear = reached(baselines, writer.LINEAR)
    if linear is None:
        return None
    value = linear.metrics["best_val_accuracy"]
    best = accuracy(trials[0]) if trials else None
    ahead = None if best is None else best - value
    spread = [standard_error(share, reviews) for share in (value, best or 0.0)]
    within = ahead is not None and abs(ahead) <= SURE * math.hypot(*spread)
    seconds = linear.metrics.get("train_seconds", 0.0)
    return BaselineComparison(linear.run_id, value, seconds, ahead, within)


def reached(baselines: Sequence[Baseline], which: str) -> Baseline | None:
    """The baseline of this kind, if it has finished."""
    done = (b for b in baselines if b.which == which and b.accuracy is not None)
    return next(done, None)


@dataclass(frozen=True)
class Cost:
    """What an accuracy costs, and which trials no other beats in both."""

    metric: str  # "train_seconds" or "parameter_count"
    points: tuple[tuple[float, float], ...]  # (cost, accuracy), the first being the best trial
    front: tuple[int, ...]  # indices of points, from the cheapest to the best


def cost_data(trials: Sequence[Trial], metric: str) -> Cost:
    """Accuracy against ``metric``; the front holds the first of equal points."""
    points = tuple(
        (trial.metrics[metric], value)
        for trial, value in measured(trials)
        if trial.metrics.get(metric, 0) > 0
    )
    front, best = [], -math.inf
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return Cost(metric, points, tuple(front))


@dataclass(frozen=True)
class Progress:
    """The best accuracy so far while the search ran."""

    minutes: tuple[float, ...]  # since the search began, when each trial ended
    accuracies: tuple[float, ...]
    best: tuple[float, ...]


def progress_data(trials: Sequence[Trial], began_ms: int) -> Progress:
    """The trials in the order in which they ended."""
    ended = [
        ((trial.ended_ms - began_ms) / 60_000, value)
        for trial, value in measured(trials)
        if trial.ended_ms is not None
    ]
    ended.sort()
    values = [value for _, value in ended]
    best = tuple(itertools.accumulate(values, max))
    return Progress(tuple(minutes for minutes, _ in ended), tuple(values), best)


def duration_s(trials: Sequence[Trial], began_ms: int) -> float:
    """Seconds from the begin of a search to the end of its last trial."""
    return max([0, *(t.ended_ms - began_ms for t in trials if t.ended_ms is not None)]) / 1000


@dataclass(frozen=True)
class Failure:
    """Trials that ended without a result, for the same reason."""

    status: str
    reason: str
    trials: tuple[Trial, ...]

    @property
    def count(self) -> int:
        """How many trials."""
        return len(self.trials)


def failures_data(trials: Sequence[Trial]) -> tuple[Failure, ...]:
    """The most frequent reason first."""
    by_reason: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.status in ("FAILED", "KILLED"):
            key = (trial.status, trial.reason or "no reason was noted")
            by_reason.setdefault(key, []).append(trial)
    found = [Failure(status, why, tuple(lost)) for (status, why), lost in by_reason.items()]
    return tuple(sorted(found, key=lambda failure: -failure.count))
