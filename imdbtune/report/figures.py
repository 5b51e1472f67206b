"""Draw the figures of a report from the numbers of ``findings`` and ``effects``.

All figures are legible on a phone: about 13 cm wide, with no text below 8 points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imdbtune.config.extensions import METRICS
from imdbtune.report.effects import Effect, Parallel, needs_log_scale, spread_dots
from imdbtune.report.findings import Cost, Progress
from imdbtune.report.importance import Importances
from imdbtune.report.outlook import ExpectedBest
from imdbtune.training.learning_curves import (
    BEST_COLOURS,
    BLUE,
    GREY,
    VERMILLION,
    draw_level,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.4  # inches
MAX_INTERACTIONS = 3  # that are drawn
RASTERIZE_FROM = 300  # dots or lines; more are embedded as an image
UNITS = {"train_seconds": "training time (s)", "parameter_count": "weights of the model (number)"}
TITLES = {
    "rnn": "Cell type",
    "depth": "Depth (recurrent layers)",
    "units": "Units of a recurrent layer",
    "maxlen": "Tokens kept of a review (maxlen)",
}
PLAIN_NUMBERS = "{x:,.12g}"  # no powers of ten
MAX_MINUTES = 180  # more are shown as hours

Values = Sequence[float] | np.ndarray


def label_of(metric: str) -> str:
    """Return the label of an axis for a metric that is a share."""
    return f"validation {METRICS[metric].label} (%)"


def cost_title(metric: str, cost: str) -> str:
    """Return the title of a figure of a metric against a cost."""
    return f"{METRICS[metric].title} and {UNITS[cost].partition(' (')[0]}"


def effect_title(name: str, metric: str) -> str:
    """Return the title of a figure of a metric by a hyperparameter, or by ``search``."""
    return f"{METRICS[metric].title} by search" if name == "search" else TITLES.get(name, name)


def time_unit(minutes: Sequence[float]) -> tuple[str, float]:
    """Return the unit in which times are shown, and the number of minutes in it."""
    return ("hours", 60.0) if max(minutes, default=0.0) > MAX_MINUTES else ("minutes", 1.0)


def draw_effect(effect: Effect, limits: tuple[float, float], metric: str = "accuracy") -> Figure:
    """Draw each trial as a dot and each group's median as a bar; ``limits`` are of the y axis."""
    figure, axes = _figure(3.3)
    axes.set_ylim(limits[0] * 100, limits[1] * 100)
    axes.set_ylabel(label_of(metric))
    axes.set_xlabel(effect.name)
    axes.set_title(effect_title(effect.name, metric), fontsize=11)
    if effect.is_range:
        _draw_range(axes, effect)
    else:
        _draw_groups(axes, effect)
    axes.plot([], [], "o", color=BLUE, alpha=0.7, markersize=5, label="trial")
    axes.plot([], [], "-", color=VERMILLION, linewidth=2.5, label="median")
    _legend(figure)
    return figure


def _draw_groups(axes: Axes, effect: Effect) -> None:
    for group in effect.groups:
        values = np.array(group.accuracies) * 100
        x = group.position + spread_dots(values, axes.get_ylim())
        _draw_dots(axes, x, values)
        _draw_bar(axes, group.position - 0.3, group.position + 0.3, group.median)
    axes.set_xticks([g.position for g in effect.groups], [g.label for g in effect.groups])
    axes.set_xlim(-0.6, len(effect.groups) - 0.4)


def _draw_range(axes: Axes, effect: Effect) -> None:
    values = [value for value, _ in effect.points]
    _draw_dots(axes, values, [accuracy * 100 for _, accuracy in effect.points])
    if needs_log_scale(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN_NUMBERS)
    position = 0
    ordered = sorted(values)
    for group in effect.groups:
        inside = ordered[position : position + len(group.accuracies)]
        position += len(group.accuracies)
        _draw_bar(axes, inside[0], inside[-1], group.median)


def _draw_bar(axes: Axes, left: float, right: float, accuracy: float) -> None:
    axes.plot([left, right], [accuracy * 100] * 2, color=VERMILLION, linewidth=2.5, zorder=3)


def _draw_dots(
    axes: Axes, x: Values, y: Values, color: str = BLUE, label: str | None = None
) -> None:
    is_many = len(x) >= RASTERIZE_FROM
    axes.plot(
        x,
        y,
        "o",
        color=color,
        label=label,
        alpha=0.3 if is_many else 0.7,
        markersize=5,
        markeredgewidth=0,
        rasterized=is_many,
    )


def draw_importance(importances: Importances, metric: str = "accuracy") -> Figure:
    """Draw the share of each hyperparameter with its interval, then the largest interactions."""
    shown = [*importances.alone, *importances.interactions[:MAX_INTERACTIONS]]
    figure, axes = new_figure(WIDTH, 1.4 + 0.36 * len(shown))
    for position, each in enumerate(shown):
        colour = BLUE if len(each.names) == 1 else GREY
        share, low, high = (100 * value for value in (each.share, each.low, each.high))
        axes.plot([low, high], [position, position], color=colour, linewidth=2)
        axes.plot([max(0.0, share)], [position], "o", color=colour, markersize=6)
    axes.set_yticks(range(len(shown)), [each.label for each in shown])
    axes.invert_yaxis()
    axes.set_xlim(-2, 100)
    axes.set_xlabel(f"share of the variance of the {METRICS[metric].label} (%)")
    axes.set_title("Importance of the hyperparameters", fontsize=11)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    return figure


def draw_cost(cost: Cost, ranks: Sequence[int], metric: str = "accuracy") -> Figure:
    """Draw the metric over cost; trials on the Pareto front are labelled with their ``ranks``."""
    figure, axes = _figure(3.6)
    points = np.array(cost.points) * (1, 100)
    _draw_dots(axes, points[:, 0], points[:, 1], color=GREY, label="trial")
    front = points[list(cost.front)]
    axes.step(front[:, 0], front[:, 1], where="post", color=BLUE, linewidth=1.5, zorder=2)
    axes.plot(front[:, 0], front[:, 1], "o", color=BLUE, markersize=6, label="Pareto front")
    for at, index in _labelled_points(front, cost.front, axes):
        axes.annotate(
            f"#{ranks[index]}",
            at,
            xytext=(-4, 5),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    axes.margins(x=0.1, y=0.12)
    if needs_log_scale(points[:, 0].tolist()):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN_NUMBERS)
    axes.set_xlabel(UNITS[cost.metric])
    axes.set_ylabel(label_of(metric))
    axes.set_title(cost_title(metric, cost.metric), fontsize=11)
    _legend(figure)
    return figure


def _labelled_points(
    front: np.ndarray, indices: Sequence[int], axes: Axes
) -> list[tuple[tuple[float, float], int]]:
    """Return the points of the front, from the best down, whose labels do not overlap."""
    low, high = axes.get_ylim()
    log_scale = needs_log_scale(front[:, 0].tolist())
    x_values = np.log(front[:, 0]) if log_scale else front[:, 0]
    width = max(float(np.ptp(x_values)), 1e-9)
    labelled: list[tuple[tuple[float, float], int]] = []
    last: tuple[float, float] | None = None
    for x, point, index in zip(x_values[::-1], front[::-1], indices[::-1], strict=True):
        position = (x / width, point[1] / (high - low))
        if last is None or abs(position[0] - last[0]) > 0.1 or abs(position[1] - last[1]) > 0.08:
            labelled.append(((float(point[0]), float(point[1])), index))
            last = position
    return labelled


def draw_progress(
    progress: Progress, linear: float | None = None, metric: str = "accuracy"
) -> Figure:
    """Draw the trials by end time, the best so far as steps, the linear model dashed."""
    figure, axes = _figure(3.3)
    unit, divisor = time_unit(progress.minutes)
    times = np.array(progress.minutes) / divisor
    _draw_dots(axes, times, np.array(progress.accuracies) * 100, color=GREY, label="trial")
    best = np.array(progress.best) * 100
    axes.step(times, best, where="post", color=BLUE, linewidth=2, label="best so far")
    if linear is not None:
        draw_level(axes, linear * 100)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} since the start of the search")
    axes.set_ylabel(label_of(metric))
    axes.set_title("Best so far", fontsize=11)
    _legend(figure, columns=2 if linear is None else 3)
    return figure


def draw_expected_best(expected: ExpectedBest, metric: str = "accuracy") -> Figure:
    """Draw the expected best accuracy against the number of trials."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(3.3)
    counts = np.arange(1, len(expected.values) + 1)
    axes.plot(counts, np.array(expected.values) * 100, "o-", color=BLUE, markersize=3)
    axes.set_xlabel("trials")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"best {label_of(metric)}")
    axes.set_title("Expected best by number of trials", fontsize=11)
    return figure


def draw_progress_of_searches(searches: Mapping[str, Progress], metric: str = "accuracy") -> Figure:
    """Draw the best so far of each search as steps, by its label."""
    figure, axes = new_figure(WIDTH, 3.3 + 0.18 * len(searches))
    unit, divisor = time_unit([time for each in searches.values() for time in each.minutes])
    for number, (name, each) in enumerate(searches.items()):
        colour = BEST_COLOURS[number % len(BEST_COLOURS)]
        style = ("-", "--", ":")[number // len(BEST_COLOURS) % 3]
        times, best = np.array(each.minutes) / divisor, np.array(each.best) * 100
        axes.step(times, best, style, where="post", color=colour, linewidth=2, label=name)
        axes.plot(times[-1:], best[-1:], "o", color=colour, markersize=5)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} since the start of each search")
    axes.set_ylabel(label_of(metric))
    axes.set_title("Best so far", fontsize=11)
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure


def draw_interval(
    others: Sequence[float], errors: Sequence[float], metric: str = "accuracy"
) -> Figure:
    """Draw the best values with their 95 % intervals, the best of all first."""
    from imdbtune.report.findings import Z_95

    figure, axes = _figure(1.2 + 0.26 * len(others))
    for position, (value, error) in enumerate(zip(others, errors, strict=True)):
        half_width = Z_95 * error * 100
        colour = VERMILLION if position == 0 else BLUE
        axes.errorbar(
            value * 100, position, xerr=half_width, fmt="o", color=colour, capsize=3, markersize=5
        )
    axes.set_yticks(range(len(others)), [f"#{n}" for n in range(1, len(others) + 1)])
    axes.set_ylim(len(others) - 0.5, -0.5)  # the best at the top
    axes.set_xlabel(f"{label_of(metric)}, 95 % interval")
    axes.set_title("The best trials with their 95 % intervals", fontsize=11)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    return figure


def draw_parallel(parallel: Parallel, metric: str = "accuracy") -> Figure:
    """Draw a line for each trial, darker if better; the best one is highlighted."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    figure, axes = new_figure(max(WIDTH, 1.15 * (len(parallel.axes) + 1)), 3.9)
    scores = np.array(parallel.accuracies) * 100
    norm = Normalize(scores.min(), max(scores.max(), scores.min() + 0.1))
    colours = colormaps["cividis_r"]
    across = np.arange(len(parallel.axes))
    lines = np.array([axis.positions for axis in parallel.axes]).T
    lines = lines + _shifts(len(lines))[:, None]
    many = len(lines) >= RASTERIZE_FROM
    order = np.argsort(scores, kind="stable")
    drawn = LineCollection(
        [np.column_stack([across, lines[index]]) for index in order],
        colors=colours(norm(scores[order])),
        alpha=0.35 if many else 0.75,
        linewidths=0.8 if many else 1.2,
        capstyle="projecting",  # cap and join style as in axes.plot
        joinstyle="round",
        rasterized=many,
        zorder=2,
    )
    axes.add_collection(drawn)
    axes.plot(across, lines[0], color=VERMILLION, linewidth=2.6, zorder=5, label="best trial")
    _draw_axes(axes, parallel)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), frameon=False, fontsize=9)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.06, aspect=30)
    bar.set_label(label_of(metric))
    return figure


def _shifts(count: int) -> np.ndarray:
    """Return a small vertical offset for each line, so that equal lines do not overlap."""
    return (np.arange(count) * 0.61803 % 1 - 0.5) * (0.05 if count > 1 else 0.0)


def _draw_axes(axes: Axes, parallel: Parallel) -> None:
    axes.set_title("Trials by their hyperparameters", fontsize=11)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.set_xlim(-0.35, len(parallel.axes) - 0.4)
    axes.set_xticks(range(len(parallel.axes)), [axis.name for axis in parallel.axes])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(axis="x", length=0, pad=4)
    axes.spines[:].set_visible(False)
    for position, axis in enumerate(parallel.axes):
        axes.axvline(position, color="#404040", linewidth=0.8, zorder=4)
        for height, label in axis.ticks:
            axes.text(
                position + 0.03,
                height,
                label,
                fontsize=8,
                va="center",
                zorder=6,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
            )


def _legend(figure: Figure, columns: int = 2) -> None:
    figure.legend(loc="lower right", ncols=columns, frameon=False, fontsize=9, borderaxespad=0.3)


def _figure(height: float) -> tuple[Figure, Axes]:
    """Return a figure whose labels Matplotlib need not measure: that takes a third of the time."""
    figure, axes = new_figure(WIDTH, height, fitted=False)
    figure.subplots_adjust(0.68 / WIDTH, 0.85 / height, 1 - 0.15 / WIDTH, 1 - 0.36 / height)
    return figure, axes
