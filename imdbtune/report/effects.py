"""How the validation accuracy depends on each hyperparameter, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from imdbtune.config.hyperparameters import PARAMETERS, Scalar, names_of
from imdbtune.config.search_space import word
from imdbtune.report.findings import with_accuracy
from imdbtune.tracking.entities import Trial

MAX_VALUES = 8  # more distinct numbers than this are grouped into ranges
RANGES = 4


def varied_params(trials: Sequence[Trial]) -> list[str]:
    """Return the hyperparameters in which trials differ."""
    names = names_of(trial.params for trial in trials)
    return [name for name in names if len({trial.params.value(name) for trial in trials}) > 1]


@dataclass(frozen=True)
class Group:
    """Trials that share a value, or a range of values, of a hyperparameter."""

    label: str
    position: float  # on the axis
    accuracies: tuple[float, ...]
    rows: tuple[int, ...] = ()  # places of the trials in the list that they came from

    @property
    def median(self) -> float:
        """Median of the accuracies."""
        return float(median(self.accuracies))

    @property
    def best(self) -> float:
        """The largest accuracy."""
        return max(self.accuracies)


@dataclass(frozen=True)
class Effect:
    """Accuracies by the values of one hyperparameter."""

    name: str
    groups: tuple[Group, ...]
    points: tuple[tuple[float, float], ...] = ()  # (value, accuracy), if grouped into ranges

    @property
    def is_range(self) -> bool:
        """Whether the values are grouped into ranges."""
        return bool(self.points)


def effect_data(name: str, trials: Sequence[Trial]) -> Effect:
    """Return the accuracies by the values of ``name``; many numbers are grouped into ranges."""
    known = enumerate(with_accuracy(trials))
    pairs = [(trial.params.value(name), accuracy, row) for row, (trial, accuracy) in known]
    found = [(value, accuracy, row) for value, accuracy, row in pairs if value is not None]
    codes, labels = group_codes(name, [value for value, _, _ in found])
    is_range = len({value for value, _, _ in found}) > MAX_VALUES
    groups = []
    for code, label in enumerate(labels):
        inside = [pair for pair, own in zip(found, codes, strict=True) if own == code]
        if inside:
            values, accuracies, rows = zip(*inside, strict=True)
            position = float(median(map(float, values))) if is_range else float(code)
            groups.append(Group(label, position, accuracies, rows))
    points = tuple((float(value), a) for value, a, _ in found) if is_range else ()
    return Effect(name, tuple(groups), points)


def group_codes(name: str, values: Sequence[Scalar]) -> tuple[list[int], list[str]]:
    """Return the group number of each value, and the labels of the groups in order."""
    known = list(dict.fromkeys(values))
    texts = [value for value in known if isinstance(value, str)]
    choices: Sequence[str] = PARAMETERS[name].metadata["choices"] if name in PARAMETERS else ()
    if not set(texts) <= set(choices):  # a hyperparameter of an own model
        choices = sorted(texts)

    def position(value: Scalar) -> float:
        return choices.index(value) if isinstance(value, str) else float(value)

    ordered = sorted(known, key=position)
    if len(known) <= MAX_VALUES:
        return [ordered.index(value) for value in values], [short_value(value) for value in ordered]
    edges = np.quantile(np.asarray(values, float), np.linspace(0, 1, RANGES + 1)[1:-1])
    codes = [int(code) for code in np.searchsorted(edges, values, side="right")]
    labels = []
    for code in range(RANGES):
        inside = [value for value, own in zip(values, codes, strict=True) if own == code]
        inside.sort(key=position)
        labels.append(f"{short_value(inside[0])} to {short_value(inside[-1])}" if inside else "")
    return codes, labels


def short_value(value: Scalar | None) -> str:
    """Return a value as text for a table or an axis; ``None``: the model has no such value."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return word(value)


@dataclass(frozen=True)
class Axis:
    """One axis of parallel coordinates, with positions from 0 to 1."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    positions: tuple[float, ...]  # of each trial


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates of all trials; the best trial comes first."""

    axes: tuple[Axis, ...]
    accuracies: tuple[float, ...]


def parallel_data(trials: Sequence[Trial], names: Sequence[str]) -> Parallel:
    """Return parallel coordinates of the trials over the hyperparameters ``names``.

    A few values are equally spaced; many are on a linear scale, or on a log scale if needed.
    """
    found = with_accuracy(trials)
    axes = []
    for name in names:
        values = [v for trial, _ in found if (v := trial.params.value(name)) is not None]
        if len(values) < len(found):
            continue  # some trials have no place on the axis
        is_range = _is_range(values)
        axes.append(range_axis(name, [*map(float, values)]) if is_range else _axis(name, values))
    return Parallel(tuple(axes), tuple(value for _, value in found))


def _is_range(values: Sequence[object]) -> bool:
    return len(set(values)) > MAX_VALUES


def needs_log_scale(values: Sequence[float]) -> bool:
    """Return whether positive values span so much that a log scale is better."""
    return min(values) > 0 and max(values) / min(values) >= 20


def _axis(name: str, values: Sequence[Scalar]) -> Axis:
    codes, labels = group_codes(name, values)
    last = max(len(labels) - 1, 1)
    return Axis(
        name,
        tuple((code / last, label) for code, label in enumerate(labels)),
        tuple(code / last for code in codes),
    )


def range_axis(name: str, values: Sequence[float]) -> Axis:
    """Return the axis of numbers; its ends and its middle are labelled, or the only number."""
    if min(values) == max(values):
        return Axis(name, ((0.5, short_value(values[0])),), (0.5,) * len(values))
    scale = math.log if needs_log_scale(values) else float
    low, high = scale(min(values)), scale(max(values))
    middle = math.exp((low + high) / 2) if scale is math.log else (low + high) / 2
    positions = tuple((scale(value) - low) / (high - low) for value in values)
    ends = (
        (0.0, short_value(min(values))),
        (0.5, short_value(middle)),
        (1.0, short_value(max(values))),
    )
    return Axis(name, ends, positions)


def shared_limits(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return axis limits that contain all accuracies, with a margin."""
    low, high = min(accuracies), max(accuracies)
    margin = max(0.005, (high - low) * 0.06)
    return max(0.0, low - margin), min(1.0, high + margin)


def spread_dots(
    values: np.ndarray, limits: tuple[float, float], max_offset: float = 0.28
) -> np.ndarray:
    """Return horizontal offsets so that dots of similar height do not overlap."""
    bins = np.round((values - limits[0]) / (limits[1] - limits[0]) * 40)
    offsets = np.zeros(len(values))
    for level in np.unique(bins):
        (inside,) = np.nonzero(bins == level)
        if len(inside) > 1:
            width = min(max_offset, 0.04 * (len(inside) - 1))
            offsets[inside] = np.linspace(-width, width, len(inside))
    return offsets
