"""A user's own metric, run: its values, and what is wrong with them."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from imdbtune.config.extensions import METRICS
from imdbtune.config.own_metric import OwnMetric
from imdbtune.errors import UserError, short_repr
from imdbtune.models.metrics.metric import Metric
from imdbtune.models.own_code import error_in, find_attribute

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Labels

SAMPLE = 200  # generated reviews with which a metric is tried


def as_metric(own: OwnMetric) -> Metric:
    """Return a user's own metric as those of imdbtune; measuring raises UserError.

    Raises:
        UserError: the source cannot be run, or has no such function.
    """
    _function(own)

    def measure_own(labels: Labels, probabilities: Floats) -> float:
        return call(own, labels, probabilities)

    return Metric(
        about=f"your own, {own.source.reference}",
        axis=own.name,
        larger_is_better=own.larger_is_better,
        measure=measure_own,
    )


def metrics_by_name(names: Iterable[str], own: Iterable[OwnMetric]) -> dict[str, Metric]:
    """Return metrics by name, also those of the user's own.

    Raises:
        UserError: one is unknown, or one of the user's own cannot be run.
    """
    known = {metric.name: metric for metric in own}
    return {n: as_metric(known[n]) if n in known else METRICS[n] for n in names}


def call(own: OwnMetric, labels: Labels, probabilities: Floats) -> float:
    """Return the value of a user's own metric; the function gets copies.

    Raises:
        UserError: it raises, or returns no finite number.
    """
    function = _function(own)
    try:
        value = function(labels.copy(), probabilities.copy())
    except (Exception, SystemExit) as error:
        raise error_in(own.source.file, error, f"{own.name} raises") from error
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # of NumPy
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"{where(own)}: {own.name} returns {_type_name(value)}, not a number.")
    if not math.isfinite(value):
        raise UserError(
            f"{where(own)}: {own.name} returns {short_repr(value)}, not a finite number."
        )
    return float(value)


def check_own_metrics(metrics: Iterable[OwnMetric], classes: int) -> None:
    """Try metrics on generated reviews, of which each label has some.

    Args:
        classes: number of labels; of two, the metric gets the probability of label 1.

    Raises:
        UserError: one raises, or returns no finite number.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.arange(max(SAMPLE, 4 * classes)) % classes
    weights = rng.random((len(labels), classes)) + np.eye(classes)[labels] / 2
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    for own in metrics:
        call(own, labels, probabilities if classes > 2 else probabilities[:, 1])


def _function(own: OwnMetric) -> Callable[[Labels, Floats], object]:
    found = find_attribute(own.source)
    if not callable(found) or inspect.isclass(found):
        raise UserError(
            f"{own.source.file} has {own.name}, which is not a function of (labels, probabilities)."
        )
    function: Callable[[Labels, Floats], object] = found
    return function


def where(own: OwnMetric) -> str:
    """Return the file and the line where the function begins."""
    code = getattr(inspect.unwrap(find_attribute(own.source)), "__code__", None)
    return f"{own.source.file}:{code.co_firstlineno}" if code else own.source.file


def _type_name(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
