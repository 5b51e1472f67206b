"""What the interactive charts of a report show, as numbers for the page's script.

A trial is named by its row in the page's table of all trials, so that names, hyperparameters and
links stand in the page once. Accuracies are in percent. ``charts.js`` draws the charts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from imdbtune.config.extensions import METRICS
from imdbtune.report import effects, figures, findings
from imdbtune.report.importance import Importances
from imdbtune.report.page_data import ReportData, errors_of
from imdbtune.tracking.entities import Trial
from imdbtune.training import learning_curves

MAX_AXES = 6  # hyperparameters in parallel coordinates
MAX_INTERVALS = 10
LEVELS = (50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9)  # of confidence, in percent

Point = tuple[float, float]


@dataclass(frozen=True)
class Scatter:
    """Trials as dots in a plane, with what a figure draws over them."""

    title: str
    x_title: str
    points: Sequence[tuple[float, float, int]]  # (x, accuracy, row)
    log: bool = False  # x on a logarithmic scale
    zero: bool = False  # x begins at 0
    owners: Sequence[str] = ()  # label of the staircase to which each point belongs
    labels: Sequence[str] = ()  # of x = 0, 1, 2 and so on, where x is no number
    steps: Mapping[str, Sequence[Point]] = field(default_factory=dict)  # staircases by label
    medians: Sequence[tuple[float, float, float]] = ()  # (from x, to x, accuracy)
    level: float | None = None  # accuracy of the linear model
    ranked: Sequence[int] = ()  # rows of trials that are labelled by their rank


@dataclass(frozen=True)
class Curve:
    """Validation accuracy of a trial by epoch; ``None`` where it has no finite value."""

    row: int
    points: Sequence[tuple[int, float | None]]
    best: str  # its largest value, in words


@dataclass(frozen=True)
class Interval:
    """An accuracy and its standard error."""

    row: int
    accuracy: float
    error: float


@dataclass(frozen=True)
class ChartAxis:
    """An axis of parallel coordinates: positions from 0 to 1 by row, and labels at some of them."""

    name: str
    ticks: Sequence[tuple[float, str]]
    positions: Sequence[float]


@dataclass(frozen=True)
class Charts:
    """All charts of a page; the names of ``scatters`` are those of the figures they replace."""

    label: str = ""  # of what is called accuracy here: a share in percent
    scatters: Mapping[str, Scatter] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    level: float | None = None  # accuracy of the linear model
    intervals: Sequence[Interval] = ()
    axes: Sequence[ChartAxis] = ()
    accuracies: Sequence[float] = ()  # by row, as for the axes
    # (confidence in percent, half width of its interval in standard errors)
    levels: Sequence[tuple[float, float]] = tuple(
        (level, NormalDist().inv_cdf(0.5 + level / 200)) for level in LEVELS
    )


def charts_of(data: ReportData) -> Charts:
    """Return the charts of the page about a search; none without a finished trial."""
    finished = data.finished
    if not finished:
        return Charts()
    level = data.linear_level * 100 if data.linear_level is not None else None
    scatters = {
        **_costs(finished, data.metric),
        **_progress(data, level),
        **_effects(finished, data.metric),
    }
    return Charts(
        label=figures.label_of(data.metric),
        scatters=scatters,
        curves=_curves(data),
        level=level,
        intervals=_intervals(data),
        axes=_axes(finished, parallel_names(data.importances, finished), data.metric),
        accuracies=[percent(trial) for trial in finished],
    )


def parallel_names(importances: Importances, finished: Sequence[Trial]) -> list[str]:
    """Return the hyperparameters with an axis: those that explain most; none if only one varies."""
    names = effects.varied_params(finished)
    ordered = [each.label for each in importances.alone] or names
    return [name for name in names if name in ordered[:MAX_AXES]] if len(names) > 1 else []


def percent(trial: Trial) -> float:
    """Return the accuracy of a finished trial in percent, without digits that nobody sees."""
    return round(100 * (findings.accuracy(trial) or 0.0), 4)


def _costs(finished: Sequence[Trial], metric: str) -> dict[str, Scatter]:
    found = {}
    for name, title in figures.UNITS.items():
        cost = findings.cost_data(finished, name)
        rows = [row for row, trial in enumerate(finished) if trial.metrics.get(name, 0) > 0]
        if not rows:
            continue
        points = [(finished[row].metrics[name], percent(finished[row]), row) for row in rows]
        front = [points[index] for index in cost.front]
        found[name] = Scatter(
            title=figures.cost_title(metric, name),
            x_title=title,
            points=points,
            log=effects.needs_log_scale([x for x, _, _ in points]),
            steps={"Pareto front": [(x, y) for x, y, _ in front]},
            ranked=[row for _, _, row in front],
        )
    return found


def _progress(data: ReportData, level: float | None) -> dict[str, Scatter]:
    progress = findings.progress_data(data.finished, data.search.started_ms)
    if not progress.minutes:
        return {}
    unit, divisor = figures.time_unit(progress.minutes)
    points = [
        ((trial.ended_ms - data.search.started_ms) / 60_000 / divisor, percent(trial), row)
        for row, trial in enumerate(data.finished)
        if trial.ended_ms is not None
    ]
    steps = {"best so far": best_so_far(progress, divisor)}
    title = f"{unit} since the start of the search"
    scatter = Scatter("Best so far", title, points, zero=True, steps=steps, level=level)
    return {"progress": scatter}


def best_so_far(progress: findings.Progress, divisor: float) -> list[Point]:
    """Return the largest accuracy in percent at the end of each trial."""
    times = [minutes / divisor for minutes in progress.minutes]
    return [(time, 100 * best) for time, best in zip(times, progress.best, strict=True)]


def _effects(finished: Sequence[Trial], metric: str) -> dict[str, Scatter]:
    if len(finished) < 2:
        return {}
    found = {}
    for name in effects.varied_params(finished):
        effect = effects.effect_data(name, finished)
        title = figures.effect_title(name, metric)
        scatter = range_scatter if effect.is_range else group_scatter
        found[f"by_{name}"] = scatter(effect, title)
    return found


def group_scatter(effect: effects.Effect, title: str) -> Scatter:
    """Return the trials by group, moved apart where they overlap, with the median of each group."""
    limits = effects.shared_limits([a for group in effect.groups for a in group.accuracies])
    points: list[tuple[float, float, int]] = []
    for group in effect.groups:
        x = group.position + effects.spread_dots(np.array(group.accuracies), limits)
        accuracies = [100 * accuracy for accuracy in group.accuracies]
        points += zip(x.round(4).tolist(), accuracies, group.rows, strict=True)
    return Scatter(
        title,
        effect.name,
        points,
        labels=[group.label for group in effect.groups],
        medians=[(g.position - 0.3, g.position + 0.3, 100 * g.median) for g in effect.groups],
    )


def range_scatter(effect: effects.Effect, title: str) -> Scatter:
    """Return the trials by the value of a hyperparameter, with the median of each range."""
    rows = sorted(row for group in effect.groups for row in group.rows)
    points = [
        (value, 100 * accuracy, row)
        for (value, accuracy), row in zip(effect.points, rows, strict=True)
    ]
    ordered = iter(sorted(value for value, _, _ in points))
    medians = []
    for group in effect.groups:
        inside = list(itertools.islice(ordered, len(group.rows)))
        medians.append((inside[0], inside[-1], 100 * group.median))
    log = effects.needs_log_scale([value for value, _, _ in points])
    return Scatter(title, effect.name, points, log=log, medians=medians)


def _curves(data: ReportData) -> list[Curve]:
    """Return the curves, the best first."""
    curves = [learning_curves.curves_data(rows, data.metric) for _, rows in data.histories]
    known = [(row, each) for row, each in enumerate(curves) if each.best_epoch is not None]
    known.sort(key=lambda pair: -pair[1].best_value)
    return [
        Curve(
            row,
            [
                (epoch, None if math.isnan(value) else round(100 * value, 4))
                for epoch, value in zip(each.epochs, each.validation, strict=True)
            ],
            f"{100 * each.best_value:.2f} % at epoch {each.best_epoch}",
        )
        for row, each in known
    ]


def _intervals(data: ReportData) -> list[Interval]:
    """Return the best trials with their standard errors; none if these are unknown."""
    if not data.search.validation_reviews:
        return []
    errors = [float(error) for error in errors_of(data)[:MAX_INTERVALS]]
    return [
        Interval(row, percent(trial), 100 * error)
        for row, (trial, error) in enumerate(zip(data.finished, errors, strict=False))
        if not math.isnan(error)
    ]


def _axes(finished: Sequence[Trial], names: Sequence[str], metric: str) -> list[ChartAxis]:
    if not names:
        return []
    parallel = effects.parallel_data(finished, names)
    label = f"{METRICS[metric].label} (%)"
    values = effects.range_axis(label, [percent(trial) for trial in finished])
    return [
        ChartAxis(axis.name, axis.ticks, [round(position, 4) for position in axis.positions])
        for axis in (*parallel.axes, values)
    ]
