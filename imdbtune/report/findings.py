"""Statistics of a search, computed from its trials; nothing here draws, writes or reads MLflow.

All statistics are of the validation accuracy, a share of a known number of reviews whose standard
error is known, unless the objective is another metric from 0 to 1 that is to be large, such as F1.
Then they are of that metric, with errors from its draws, and "accuracy" here stands for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from imdbtune.config.extensions import METRICS
from imdbtune.config.objectives import error_name, logged_name, statistic_of
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import ENDED_WELL, Baseline, Trial

if TYPE_CHECKING:
    from imdbtune.config.hyperparameters import Scalar
    from imdbtune.config.search_space import SearchSpace
    from imdbtune.confirm.entities import Confirmation

ACCURACY = "best_val_accuracy"
OF_CONFIRMED = "the mean of the recommended configuration"
Z_95 = NormalDist().inv_cdf(0.975)  # half width of a 95 % interval in standard errors


def is_share(metric: str) -> bool:
    """Return whether a metric is from 0 to 1, and so is shown in percent."""
    return metric in METRICS and METRICS[metric].is_share


def shown_metric(objective: str) -> str:
    """Return the metric of the statistics of a search with this objective."""
    name = statistic_of(objective)
    return name if is_share(name) else "accuracy"


def accuracy(trial: Trial, metric: str = "") -> float | None:
    """Return the validation accuracy of a trial that has ended well, or ``None``.

    Args:
        metric: that stands for it; default: that of the trial's objective.
    """
    name = metric or shown_metric(trial.objective)
    value = trial.metrics.get(f"best_val_{name}", math.nan)
    return value if trial.shown_status in ENDED_WELL and 0 <= value <= 1 else None


def with_accuracy(trials: Sequence[Trial], metric: str = "") -> list[tuple[Trial, float]]:
    """Return the trials that have an accuracy, each with it, in the order given."""
    pairs = [(trial, accuracy(trial, metric)) for trial in trials]
    return [(trial, value) for trial, value in pairs if value is not None]


@dataclass(frozen=True)
class Uncertainty:
    """Uncertainty of the best accuracy among several trials."""

    accuracy: float
    reviews: int  # on which it was measured
    trials: int  # from which it was chosen
    indistinguishable: int  # trials not significantly worse than the best, with the best itself
    selection_bias: float  # by which the best accuracy is expected to exceed its true value
    is_paired: bool = False  # computed from the predictions of each review
    error: float | None = None  # standard error of another metric, by the bootstrap

    @property
    def standard_error(self) -> float:
        """Standard error of a value that was not selected; of an accuracy sqrt(p (1 - p) / n)."""
        if self.error is not None:
            return self.error
        return standard_error(self.accuracy, self.reviews)


def standard_error(share: float, count: int) -> float:
    """Return the standard error of a share of ``count`` reviews; NaN if it is not a share."""
    return math.sqrt(share * (1 - share) / count) if count and 0 <= share <= 1 else math.nan


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of ``count`` > 0 reviews, also of a share of 0 or 1.

    Wilson, 1927: Probable inference, the law of succession, and statistical inference.
    """
    spread = Z_95**2 / count
    centre, error = share + spread / 2, math.sqrt(share * (1 - share) / count + spread / count / 4)
    low, high = ((centre + z * error) / (1 + spread) for z in (-Z_95, Z_95))
    return max(0.0, low), min(1.0, high)


def error_of(run: Trial | Baseline, metric: str, reviews: int) -> float:
    """Return the standard error of a run's validation metric; NaN where it is unknown.

    That of the accuracy has a formula; that of another objective was estimated by the bootstrap.
    """
    if metric == "accuracy":
        return standard_error(run.metrics.get(ACCURACY, math.nan), reviews)
    return run.metrics.get(logged_name(error_name(f"val_{metric}")), math.nan)


def uncertainty_data(accuracies: Sequence[float], reviews: int) -> Uncertainty:
    """Return the uncertainty of the first of ``accuracies``, where the predictions are unknown.

    Trials are indistinguishable if they differ by less than 1.96 standard errors of a difference of
    two samples, and the bias is that of equal trials. Both are too large, as all trials are
    measured on the same reviews: see :mod:`imdbtune.report.paired`.
    """
    chosen = accuracies[0]
    own_error = standard_error(chosen, reviews)
    indistinguishable = sum(
        chosen - other <= Z_95 * math.hypot(own_error, standard_error(other, reviews))
        for other in accuracies
    )
    bias = expected_maximum(indistinguishable) * own_error
    return Uncertainty(chosen, reviews, len(accuracies), indistinguishable, bias)


def expected_maximum(count: int) -> float:
    """Return about the expected maximum of ``count`` standard normal numbers (Blom 1958)."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


@dataclass(frozen=True)
class BaselineComparison:
    """The linear model's validation accuracy compared with that of the best trial.

    If the search has another objective than accuracy or loss, it is the metric of that.

    Args:
        run_id: of the linear model.
        accuracy: of the linear model.
        seconds: of its training.
        margin: by how much the best trial is better than the linear model.
        half_width: of the margin's 95 % interval; NaN where the number of reviews is unknown.
        subject: what is compared: the best trial, or the mean of a confirmation.
    """

    run_id: str
    accuracy: float
    seconds: float
    margin: float | None
    half_width: float = math.nan
    subject: str = "the best trial"
    metric: str = "accuracy"

    @property
    def within_error(self) -> bool:
        """Whether the margin's interval contains 0."""
        return self.margin is not None and abs(self.margin) <= self.half_width

    @property
    def reached(self) -> str:
        """What the linear model reaches."""
        if self.metric == "accuracy":
            return f"{self.accuracy * 100:.1f} %"
        if is_share(self.metric):
            return f"a validation {METRICS[self.metric].label} of {self.accuracy * 100:.1f} %"
        return f"val_{self.metric} {self.accuracy:.4f}"

    @property
    def relation(self) -> str:
        """How the best trial relates to the linear model, as the verb of a sentence."""
        if self.within_error:
            return "does not differ significantly from"
        return "beats" if (self.margin or 0.0) > 0 else "is beaten by"

    @property
    def verdict(self) -> str:
        """The margin of the best trial in words; empty without a finished trial."""
        if self.margin is None:
            return ""
        if not is_share(self.metric):
            return self._verdict_by_metric(self.margin)
        points = abs(self.margin) * 100
        if points < 0.05:
            return f"{self.subject} is level with it"
        direction = "above" if self.margin > 0 else "below"
        note = ", which is not significant" if self.within_error else ""
        error = "" if math.isnan(self.half_width) else f" ±{self.half_width * 100:.1f}"
        return f"{self.subject} is {points:.1f}{error} points {direction} it{note}"

    def _verdict_by_metric(self, margin: float) -> str:
        """Return the margin of a metric that is no share in words."""
        note = ", which is not significant" if self.within_error else ""
        error = "" if math.isnan(self.half_width) else f" ±{self.half_width:.4f}"
        relation = "better" if margin > 0 else "worse"
        return f"{self.subject} is {relation} by {abs(margin):.4f}{error}{note}"

    def __str__(self) -> str:
        measured = "" if self.metric == "accuracy" else f"val_{self.metric} "
        result = (
            f"a linear model on word n-grams reaches {measured}{self.accuracy:.4f} "
            f"in {self.seconds:.0f} s"
        )
        return f"{result}: {self.verdict}" if self.verdict else result


def compare_with_baseline(
    baselines: Sequence[Baseline],
    trials: Sequence[Trial],
    reviews: int,
    confirmed: Confirmation | None = None,
) -> BaselineComparison | None:
    """Compare the linear model of a search with the best trial; ``None`` without such a model.

    Args:
        baselines: of the search.
        trials: ranked; only the first one counts.
        reviews: number of validation reviews.
        confirmed: if the search was confirmed, the mean of the recommended configuration is
            compared: the score of the best trial is biased upwards.
    """
    linear = find_baseline(baselines, mlflow_names.LINEAR)
    if linear is None:
        return None
    metric = statistic_of(trials[0].objective) if trials else "accuracy"
    if f"best_val_{metric}" not in linear.metrics:
        metric = "accuracy"
    value = linear.metrics[f"best_val_{metric}"]
    best, half_width, subject, sign = math.nan, math.nan, "the best trial", 1.0
    if trials and trials[0].shown_status in ENDED_WELL:
        best = trials[0].metrics.get(f"best_val_{metric}", math.nan)
        half_width = Z_95 * error_of(trials[0], metric, reviews)
        sign = 1.0 if trials[0].is_maximised(f"val_{metric}") else -1.0
    if confirmed is not None and confirmed.metric == metric:
        best, subject = confirmed.winner.mean, OF_CONFIRMED
        if not math.isnan(confirmed.winner.half_width):
            half_width = confirmed.winner.half_width
    return BaselineComparison(
        linear.run_id,
        value,
        seconds=linear.metrics.get("train_seconds", 0.0),
        margin=None if math.isnan(best) else sign * (best - value),
        half_width=math.hypot(half_width, Z_95 * error_of(linear, metric, reviews)),
        subject=subject,
        metric=metric,
    )


def find_baseline(baselines: Sequence[Baseline], name: str) -> Baseline | None:
    """Return the baseline of this name if it has finished."""
    finished = (b for b in baselines if b.name == name and b.accuracy is not None)
    return next(finished, None)


@dataclass(frozen=True)
class Cost:
    """Accuracy against cost, and the trials on the Pareto front."""

    metric: str  # "train_seconds" or "parameter_count"
    points: tuple[tuple[float, float], ...]  # (cost, accuracy), the first being the best trial
    front: tuple[int, ...]  # indices of points, from the cheapest to the best


def cost_data(trials: Sequence[Trial], metric: str) -> Cost:
    """Return accuracy against ``metric``; of equal points, the first is on the front."""
    points = tuple(
        (trial.metrics[metric], value)
        for trial, value in with_accuracy(trials)
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
    """Accuracies in the order in which the trials ended."""

    minutes: tuple[float, ...]  # from the start of the search to the end of each trial
    accuracies: tuple[float, ...]
    best: tuple[float, ...]  # so far


def progress_data(trials: Sequence[Trial], started_ms: int, metric: str = "") -> Progress:
    """Return the accuracies and the best so far, in the order in which the trials ended."""
    ended = [
        ((trial.ended_ms - started_ms) / 60_000, value)
        for trial, value in with_accuracy(trials, metric)
        if trial.ended_ms is not None
    ]
    ended.sort()
    values = [value for _, value in ended]
    best = tuple(itertools.accumulate(values, max))
    return Progress(tuple(minutes for minutes, _ in ended), tuple(values), best)


def duration_s(trials: Sequence[Trial], started_ms: int) -> float:
    """Return the seconds from the start of a search to the end of its last trial."""
    return max([0, *(t.ended_ms - started_ms for t in trials if t.ended_ms is not None)]) / 1000


def untried_values(space: SearchSpace, trials: Sequence[Trial]) -> dict[str, list[Scalar]]:
    """Return the listed values of each hyperparameter that no trial has; without those tried all.

    Args:
        space: of the search.
        trials: all of them, also failed ones.
    """
    found = {}
    for dimension in space.searched:
        tried = {
            trial.params.value(dimension.name)
            for trial in trials
            if all(trial.params.value(parent) in allowed for parent, allowed in dimension.when)
        }
        found[dimension.name] = [value for value in dimension.values if value not in tried]
    return {name: values for name, values in found.items() if values}


@dataclass(frozen=True)
class Failure:
    """Trials that ended without a result for the same reason."""

    status: str
    reason: str
    trials: tuple[Trial, ...]

    @property
    def count(self) -> int:
        """Number of trials."""
        return len(self.trials)


def failures_data(trials: Sequence[Trial]) -> tuple[Failure, ...]:
    """Return the failed and killed trials by reason, the most frequent reason first."""
    by_reason: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.shown_status in ("FAILED", "KILLED", "DISCARDED", "MISSED"):
            key = (trial.shown_status, trial.reason or "no reason was logged")
            by_reason.setdefault(key, []).append(trial)
    failures = [Failure(*key, tuple(failed)) for key, failed in by_reason.items()]
    return tuple(sorted(failures, key=lambda failure: -failure.count))
