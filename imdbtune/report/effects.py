"""How accuracy goes with each hyperparameter, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from imdbtune.config.hyperparameters import PARAMETERS, Scalar
from imdbtune.config.search_space import word
from imdbtune.report.findings import measured
from imdbtune.tracking.reader import Trial

MANY_VALUES = 8  # more different numbers than this are shown as a range
BINS = 4
SHUFFLES = 500


def varied(trials: Sequence[Trial]) -> list[str]:
    """The hyperparameters in which trials differ."""
    return [p for p in PARAMETERS if len({getattr(t.params, p) for t in trials}) > 1]


@dataclass(frozen=True)
class Group:
    """Trials that share a value, or a range of values, of a hyperparameter."""

    label: str
    place: float  # on the axis
    accuracies: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the accuracies."""
        return float(median(self.accuracies))

    @property
    def best(self) -> float:
        """The largest accuracy."""
        return max(self.accuracies)


@dataclass(frozen=True)
class Effect:
    """Accuracy by the values of one hyperparameter."""

    name: str
    groups: tuple[Group, ...]
    points: tuple[tuple[float, float], ...] = ()  # (value, accuracy), where it is a range

    @property
    def is_range(self) -> bool:
        """Whether there are too many values to show each."""
        return bool(self.points)


def effect_data(name: str, trials: Sequence[Trial]) -> Effect:
    """The accuracies of the trials by value of ``name``; many numbers are put into ranges."""
    found = [(getattr(trial.params, name), value) for trial, value in measured(trials)]
    codes, labels = group_codes(name, [value for value, _ in found])
    is_range = len({value for value, _ in found}) > MANY_VALUES
    groups = []
    for code, label in enumerate(labels):
        inside = [pair for pair, own in zip(found, codes, strict=True) if own == code]
        if inside:
            place = float(median(v for v, _ in inside)) if is_range else float(code)
            groups.append(Group(label, place, tuple(a for _, a in inside)))
    points = tuple((float(value), a) for value, a in found) if is_range else ()
    return Effect(name, tuple(groups), points)


def group_codes(name: str, values: Sequence[Any]) -> tuple[list[int], list[str]]:
    """For each value the number of its group, and the groups' labels, in order."""
    known = list(dict.fromkeys(values))
    choices: tuple[str, ...] = PARAMETERS[name].metadata["choices"]
    ordered = sorted(known, key=choices.index if choices else None)
    if len(known) <= MANY_VALUES:
        return [ordered.index(value) for value in values], [short(value) for value in ordered]
    edges = np.quantile(np.asarray(values, float), np.linspace(0, 1, BINS + 1)[1:-1])
    codes = [int(code) for code in np.searchsorted(edges, values, side="right")]
    labels = []
    for code in range(BINS):
        inside = [value for value, own in zip(values, codes, strict=True) if own == code]
        labels.append(f"{short(min(inside))} to {short(max(inside))}" if inside else "")
    return codes, labels


def short(value: Scalar) -> str:
    """A value for a table or an axis."""
    return f"{value:.3g}" if isinstance(value, float) else word(value)


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the accuracy that goes with one hyperparameter."""

    name: str
    share: float  # corrected for the number of groups, so 0 on average where nothing is to be seen
    chance: float  # what shuffled accuracies stay below in 95 of 100 cases


def importance_data(trials: Sequence[Trial]) -> tuple[Importance, ...]:
    """The hyperparameters by how much of the variance between trials each explains alone.

    The share is epsilon squared of a one-way analysis of variance (Kelley 1935) over the groups of
    :func:`group_codes`: the correlation ratio, less what as many groups explain by chance.
    """
    found = measured(trials)
    values = np.array([value for _, value in found])
    if len(found) < 3 or np.ptp(values) == 0:
        return ()
    generator = np.random.default_rng(0)
    shuffled = np.stack([values, *(generator.permutation(values) for _ in range(SHUFFLES))], axis=1)
    shares = []
    for name in varied([trial for trial, _ in found]):
        codes, _ = group_codes(name, [getattr(trial.params, name) for trial, _ in found])
        share = _epsilon_squared(np.array(codes), shuffled)
        shares.append(Importance(name, float(share[0]), float(np.quantile(share[1:], 0.95))))
    return tuple(sorted(shares, key=lambda each: -each.share))


def _epsilon_squared(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each column of ``values``; the rows belong to the groups ``codes``."""
    used, codes = np.unique(codes, return_inverse=True)
    rows, groups = len(codes), len(used)
    if rows <= groups:
        return np.zeros(values.shape[1])
    member = (codes[:, None] == np.arange(groups)).astype(float)
    means = (member.T @ values) / member.sum(axis=0)[:, None]
    within = ((values - means[codes]) ** 2).sum(axis=0)
    total = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    shares = 1 - (within / (rows - groups)) / (total / (rows - 1))
    return np.asarray(np.maximum(0.0, shares))


@dataclass(frozen=True)
class Axis:
    """One axis of parallel coordinates: places from 0 to 1."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    places: tuple[float, ...]  # of each trial


@dataclass(frozen=True)
class Parallel:
    """Every trial as a line over the hyperparameters; the best trial comes first."""

    axes: tuple[Axis, ...]
    accuracies: tuple[float, ...]


def parallel_data(trials: Sequence[Trial], names: Sequence[str]) -> Parallel:
    """Few values stand at even distances; a range is linear, or logarithmic if it is wide."""
    found = measured(trials)
    axes = []
    for name in names:
        values = [getattr(trial.params, name) for trial, _ in found]
        axes.append(_range_axis(name, values) if _is_range(values) else _axis(name, values))
    return Parallel(tuple(axes), tuple(value for _, value in found))


def _is_range(values: Sequence[Any]) -> bool:
    return len(set(values)) > MANY_VALUES


def is_wide(values: Sequence[float]) -> bool:
    """Whether positive values call for a logarithmic scale."""
    return min(values) > 0 and max(values) / min(values) >= 20


def _axis(name: str, values: Sequence[Any]) -> Axis:
    codes, labels = group_codes(name, values)
    last = max(len(labels) - 1, 1)
    return Axis(
        name,
        tuple((code / last, label) for code, label in enumerate(labels)),
        tuple(code / last for code in codes),
    )


def _range_axis(name: str, values: Sequence[float]) -> Axis:
    scale = math.log if is_wide(values) else float
    low, high = scale(min(values)), scale(max(values))
    middle = math.exp((low + high) / 2) if scale is math.log else (low + high) / 2
    places = tuple((scale(value) - low) / (high - low) for value in values)
    ends = ((0.0, short(min(values))), (0.5, f"{middle:.3g}"), (1.0, short(max(values))))
    return Axis(name, ends, places)
