"""What a search optimises, and the results by which its trials are judged.

An objective is a metric of the validation reviews, such as ``val_accuracy``, or a cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from imdbtune.config.extensions import METRICS

# Costs of each trial by their names in MLflow; smaller is better.
COSTS = ("parameter_count", "train_seconds")
# Reported with the last epoch of a fold: the mean of the objective over the folds so far.
FOLDS_MEAN = "folds_mean"


class Directed(Protocol):
    """A metric of the user's own, as far as an objective needs to know it."""

    @property
    def name(self) -> str:
        """The name under which its values are logged."""
        ...

    @property
    def larger_is_better(self) -> bool:
        """Whether larger values are better."""
        ...


def metric_objectives(own: Iterable[Directed] = ()) -> tuple[str, ...]:
    """Return the objectives that are metrics; the first objective of a search is one of them.

    Args:
        own: the metrics of the user's own that a search has.
    """
    return tuple(f"val_{name}" for name in (*METRICS, *(metric.name for metric in own)))


def all_objectives(own: Iterable[Directed] = ()) -> tuple[str, ...]:
    """Return all results of a trial that an objective or a requirement can name."""
    return (*metric_objectives(own), *COSTS)


def split_objectives(text: str) -> tuple[str, ...]:
    """Return the objectives in a text such as ``val_accuracy,parameter_count``."""
    return tuple(text.split(","))


def logged_name(objective: str) -> str:
    """Return the name that an objective's value has in MLflow and in tables."""
    return objective if objective in COSTS else f"best_{objective}"


def error_name(objective: str) -> str:
    """Return the name of the standard error of an objective, if it is measured."""
    return f"{objective}_error"


def statistic_of(objective: str) -> str:
    """Return the name of the metric whose differences are tested where this is the objective.

    It is that of the objective; trials that were chosen by their loss are compared by accuracy.
    """
    name = objective.removeprefix("val_")
    return "accuracy" if name == "loss" else name


def larger_is_better(objective: str, own: Iterable[Directed] = ()) -> bool:
    """Return whether an objective is maximised.

    Args:
        own: the metrics of the user's own that a search has.

    Raises:
        UserError: its metric is unknown here.
    """
    if objective in COSTS:
        return False
    name = objective.removeprefix("val_")
    directions = {metric.name: metric.larger_is_better for metric in own}
    return directions[name] if name in directions else METRICS[name].larger_is_better


def pareto_front(points: Sequence[Sequence[float]], maximised: Sequence[bool]) -> list[int]:
    """Return the indices of the points that no other point beats.

    A point beats another if it is better in one objective and worse in none, so that equal points
    are on the front together.

    Args:
        points: finite values of all objectives.
        maximised: whether each is, in the order of the values.
    """
    signs = [1.0 if larger else -1.0 for larger in maximised]
    gains = [tuple(s * v for s, v in zip(signs, point, strict=True)) for point in points]
    front: set[tuple[float, ...]] = set()
    for gain in sorted(set(gains), reverse=True):  # none is beaten by a later one
        if not any(all(a >= b for a, b in zip(other, gain, strict=True)) for other in front):
            front.add(gain)
    return [index for index, gain in enumerate(gains) if gain in front]
