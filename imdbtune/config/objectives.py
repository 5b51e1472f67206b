"""What a search optimises, and the results by which its trials are judged.

An objective is a metric of the validation reviews, such as ``val_accuracy``, or a cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from imdbtune.config.extensions import METRICS, objective_metric

# Costs of each trial by their names in MLflow; smaller is better.
COSTS = ("parameter_count", "train_seconds")


def metric_objectives() -> tuple[str, ...]:
    """Return the objectives that are metrics; the first objective of a search is one of them."""
    return tuple(f"val_{name}" for name in METRICS)


def all_objectives() -> tuple[str, ...]:
    """Return all results of a trial that an objective or a requirement can name."""
    return (*metric_objectives(), *COSTS)


def split_objectives(text: str) -> tuple[str, ...]:
    """Return the objectives in a text such as ``val_accuracy,parameter_count``."""
    return tuple(text.split(","))


def logged_name(objective: str) -> str:
    """Return the name that an objective's value has in MLflow and in tables."""
    return objective if objective in COSTS else f"best_{objective}"


def larger_is_better(objective: str) -> bool:
    """Return whether an objective is maximised.

    Raises:
        UserError: its metric is unknown here.
    """
    return objective not in COSTS and objective_metric(objective).larger_is_better


def pareto_front(points: Sequence[Sequence[float]], objectives: Sequence[str]) -> list[int]:
    """Return the indices of the points that no other point beats.

    A point beats another if it is better in one objective and worse in none, so that equal points
    are on the front together.

    Args:
        points: finite values of all objectives.
        objectives: their names, in the order of the values.
    """
    signs = [1.0 if larger_is_better(name) else -1.0 for name in objectives]
    gains = [tuple(s * v for s, v in zip(signs, point, strict=True)) for point in points]
    front: set[tuple[float, ...]] = set()
    for gain in sorted(set(gains), reverse=True):  # none is beaten by a later one
        if not any(all(a >= b for a, b in zip(other, gain, strict=True)) for other in front):
            front.add(gain)
    return [index for index, gain in enumerate(gains) if gain in front]
