"""Values that the best model of a search has to reach, for the checks of a CI system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imdbtune.config.extensions import METRICS
from imdbtune.config.objectives import larger_is_better
from imdbtune.confirm.entities import Confirmation
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.models.metrics.metric import format_value
from imdbtune.tracking.entities import Trial

TEST = "test_"


@dataclass(frozen=True)
class Threshold:
    """A value of a metric that has to be reached.

    Args:
        name: of the metric, such as ``val_accuracy`` or ``test_accuracy``.
        limit: the smallest value that is enough; the largest where smaller values are better.
    """

    name: str
    limit: float

    @property
    def on_test(self) -> bool:
        """Whether it is about the test reviews."""
        return self.name.startswith(TEST)


@dataclass(frozen=True)
class Verdict:
    """Whether a value reaches a threshold."""

    threshold: Threshold
    value: float
    larger_is_better: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the value is as good as the threshold, or better; NaN is not."""
        if self.larger_is_better:
            return self.value >= self.threshold.limit
        return self.value <= self.threshold.limit

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        plain = {"metric": self.threshold.name, "limit": self.threshold.limit}
        return {**plain, "value": self.value, "met": self.is_met}

    def __str__(self) -> str:
        """Return the verdict in a sentence."""
        name, limit = self.threshold.name, self.threshold.limit
        worse, enough = ("below", "at least") if self.larger_is_better else ("above", "at most")
        relation = enough if self.is_met else worse
        return f"{name} {format_value(name, self.value)} is {relation} {limit:g}"


def parse_threshold(text: str) -> Threshold:
    """Return the threshold in a text such as ``val_accuracy=0.88``.

    Raises:
        UserError: an unknown metric, or no finite number.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise UserError(
            f"{short_repr(text)} is no threshold; write METRIC=VALUE, such as val_accuracy=0.88."
        )
    known = [f"{part}{metric}" for part in ("val_", TEST) for metric in METRICS]
    prefix = TEST if name.startswith(TEST) else "val_"  # of the user's own, known by the model
    if name not in known and not (name.startswith(prefix) and name.isidentifier()):
        raise unknown_choice("metric", name, known)
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise UserError(f"{name}={short_repr(value)} is not allowed; give a finite number.")
    return Threshold(name, limit)


def judge(
    thresholds: Sequence[Threshold],
    trial: Trial,
    confirmed: Confirmation | None = None,
    metrics: Mapping[str, float] = {},
) -> list[Verdict]:
    """Return whether a model reaches each threshold.

    Args:
        thresholds: what it has to reach.
        trial: the run of the model.
        confirmed: the confirmation that recommends it: the validation accuracy is the mean over
            seeds, which was not chosen as the best of many.
        metrics: values that were measured since the run was read.

    Raises:
        UserError: the model has no such value.
    """
    known = {**trial.metrics, **metrics}
    if confirmed is not None:
        known[f"best_val_{confirmed.metric}"] = confirmed.winner.mean
    verdicts = []
    for each in thresholds:
        value = known.get(each.name if each.on_test else f"best_{each.name}")
        prefix = TEST if each.on_test else "val_"
        if each.name.removeprefix(prefix) not in trial.metric_names:
            names = [f"{part}{name}" for part in ("val_", TEST) for name in trial.metric_names]
            raise unknown_choice("metric", each.name, names)
        if value is None:
            raise UserError(f"{trial.name} (run {trial.run_id}) has no {each.name}{_remedy(each)}")
        aim = f"val_{each.name.removeprefix(prefix)}"
        verdicts.append(Verdict(each, value, larger_is_better(aim, trial.own_metrics)))
    return verdicts


def _remedy(missing: Threshold) -> str:
    """Return how a model gets a value that it does not have."""
    if missing.on_test:
        return "; with --export DIR, imdbtune best evaluates it on the test reviews."
    return ", as no reviews were held out from its training; use a metric of the test reviews."
