"""The figures of a report, drawn from the numbers of ``findings`` and ``effects``.

Each is small enough to be read on a phone: some 13 cm wide, no text below 8 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imdbtune.report.effects import Effect, Importance, Parallel, is_wide
from imdbtune.report.findings import Certainty, Cost, Progress
from imdbtune.training.learning_curves import BLUE, GREY, VERMILLION, draw_level, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.4  # inches
MANY_DOTS = 300  # from here on dots and lines are embedded as an image
UNITS = {"train_seconds": "training time (s)", "parameter_count": "weights of the model (number)"}
TITLES = {
    "rnn": "Cell type",
    "depth": "Depth (recurrent layers)",
    "units": "Units (size of the state)",
    "maxlen": "Words read of a review (maxlen)",
}
PLAIN = "{x:,.12g}"  # no powers of ten
VALIDATION = "validation accuracy (%)"


def draw_effect(effect: Effect, limits: tuple[float, float]) -> Figure:
    """Each trial as a dot, the median of each group as a bar; ``limits`` as all effects share."""
    figure, axes = _figure(3.3)
    axes.set_ylim(limits[0] * 100, limits[1] * 100)
    axes.set_ylabel(VALIDATION)
    axes.set_xlabel(effect.name)
    axes.set_title(TITLES.get(effect.name, effect.name), fontsize=11)
    if effect.is_range:
        _draw_range(axes, effect)
    else:
        _draw_groups(axes, effect)
    axes.plot([], [], "o", color=BLUE, alpha=0.7, markersize=5, label="a trial")
    axes.plot([], [], "-", color=VERMILLION, linewidth=2.5, label="median")
    _legend(figure)
    return figure


def _draw_groups(axes: Axes, effect: Effect) -> None:
    for group in effect.groups:
        values = np.array(group.accuracies) * 100
        across = group.place + spread(values, axes.get_ylim())
        _dots(axes, across, values)
        _bar(axes, group.place - 0.3, group.place + 0.3, group.median)
    axes.set_xticks([g.place for g in effect.groups], [g.label for g in effect.groups])
    axes.set_xlim(-0.6, len(effect.groups) - 0.4)


def _draw_range(axes: Axes, effect: Effect) -> None:
    values = [value for value, _ in effect.points]
    _dots(axes, values, [accuracy * 100 for _, accuracy in effect.points])
    if is_wide(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN)
    position = 0
    ordered = sorted(values)
    for group in effect.groups:
        inside = ordered[position : position + len(group.accuracies)]
        position += len(group.accuracies)
        _bar(axes, inside[0], inside[-1], group.median)


def _bar(axes: Axes, left: float, right: float, accuracy: float) -> None:
    axes.plot([left, right], [accuracy * 100] * 2, color=VERMILLION, linewidth=2.5, zorder=3)


def _dots(axes: Axes, x: Any, y: Any, **style: Any) -> None:
    look = {"color": BLUE, "alpha": 0.7 if len(x) < MANY_DOTS else 0.3, "markersize": 5, **style}
    axes.plot(x, y, "o", markeredgewidth=0, rasterized=len(x) >= MANY_DOTS, **look)


def spread(values: np.ndarray, limits: tuple[float, float], widest: float = 0.28) -> np.ndarray:
    """How far each dot is moved aside so that those of like height do not hide each other."""
    bins = np.round((values - limits[0]) / (limits[1] - limits[0]) * 40)
    moved = np.zeros(len(values))
    for level in np.unique(bins):
        (inside,) = np.nonzero(bins == level)
        if len(inside) > 1:
            width = min(widest, 0.04 * (len(inside) - 1))
            moved[inside] = np.linspace(-width, width, len(inside))
    return moved


def shared_limits(accuracies: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis that hold all accuracies, with a margin."""
    low, high = min(accuracies), max(accuracies)
    margin = max(0.005, (high - low) * 0.06)
    return max(0.0, low - margin), min(1.0, high + margin)


def draw_importance(shares: Sequence[Importance]) -> Figure:
    """A bar for each hyperparameter, with a mark at what chance alone explains."""
    figure, axes = _figure(1.5 + 0.34 * len(shares))
    places = range(len(shares))
    axes.barh(places, [100 * each.share for each in shares], color=BLUE, height=0.6)
    for place, each in zip(places, shares, strict=True):
        label = "chance (95 %)" if place == 0 else None
        mark = [100 * each.chance] * 2
        axes.plot(mark, [place - 0.4, place + 0.4], color=VERMILLION, linewidth=2, label=label)
    axes.set_yticks(list(places), [each.name for each in shares])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the variance of the accuracy (%)")
    axes.set_title("What explains the differences", fontsize=11)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def draw_cost(cost: Cost, ranks: Sequence[int]) -> Figure:
    """Accuracy over cost; the trials of the front are numbered by their ``ranks``."""
    figure, axes = _figure(3.6)
    points = np.array(cost.points) * (1, 100)
    _dots(axes, points[:, 0], points[:, 1], color=GREY, label="a trial")
    front = points[list(cost.front)]
    axes.step(front[:, 0], front[:, 1], where="post", color=BLUE, linewidth=1.5, zorder=2)
    axes.plot(front[:, 0], front[:, 1], "o", color=BLUE, markersize=6, label="Pareto front")
    for at, index in _apart(front, cost.front, axes):
        axes.annotate(
            f"#{ranks[index]}",
            at,
            xytext=(-4, 5),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    axes.margins(x=0.1, y=0.12)
    if is_wide(points[:, 0].tolist()):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_xlabel(UNITS[cost.metric])
    axes.set_ylabel(VALIDATION)
    axes.set_title(f"Accuracy and {UNITS[cost.metric].partition(' (')[0]}", fontsize=11)
    _legend(figure)
    return figure


def _apart(front: np.ndarray, indices: Sequence[int], axes: Axes) -> list[tuple[Any, int]]:
    """Points that can carry a label without covering the last labelled one: from the best down."""
    low, high = axes.get_ylim()
    places = np.log(front[:, 0]) if is_wide(front[:, 0].tolist()) else front[:, 0]
    wide = max(float(np.ptp(places)), 1e-9)
    chosen: list[tuple[Any, int]] = []
    last: tuple[float, float] | None = None
    for x, point, index in zip(places[::-1], front[::-1], indices[::-1], strict=True):
        here = (x / wide, point[1] / (high - low))
        if last is None or abs(here[0] - last[0]) > 0.1 or abs(here[1] - last[1]) > 0.08:
            chosen.append((point, index))
            last = here
    return chosen


def draw_progress(progress: Progress, linear: float | None = None) -> Figure:
    """Each trial when it ended, the best so far as steps, a linear model's accuracy dashed."""
    figure, axes = _figure(3.3)
    unit, divisor = ("hours", 60.0) if max(progress.minutes) > 180 else ("minutes", 1.0)
    times = np.array(progress.minutes) / divisor
    _dots(axes, times, np.array(progress.accuracies) * 100, color=GREY, label="a trial")
    best = np.array(progress.best) * 100
    axes.step(times, best, where="post", color=BLUE, linewidth=2, label="best so far")
    if linear is not None:
        draw_level(axes, linear * 100)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} since the search began")
    axes.set_ylabel(VALIDATION)
    axes.set_title("Best so far", fontsize=11)
    _legend(figure, columns=2 if linear is None else 3)
    return figure


def draw_interval(certainty: Certainty, others: Sequence[float]) -> Figure:
    """The best ten accuracies with their 95 % intervals, the chosen one in front."""
    from imdbtune.report.findings import SURE, standard_error

    figure, axes = _figure(1.2 + 0.26 * len(others))
    for place, value in enumerate(others):
        half = SURE * standard_error(value, certainty.reviews) * 100
        colour = VERMILLION if place == 0 else BLUE
        axes.errorbar(value * 100, place, xerr=half, fmt="o", color=colour, capsize=3, markersize=5)
    axes.set_yticks(range(len(others)), [f"#{n}" for n in range(1, len(others) + 1)])
    axes.invert_yaxis()
    axes.set_xlabel(f"{VALIDATION}, 95 % interval of one")
    axes.set_title("The best trials, and how sure each is", fontsize=11)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    return figure


def draw_parallel(parallel: Parallel) -> Figure:
    """A line for each trial, the darker the better; the best one stands out."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    figure, axes = new_figure(max(WIDTH, 1.15 * (len(parallel.axes) + 1)), 3.9)
    scores = np.array(parallel.accuracies) * 100
    norm = Normalize(scores.min(), max(scores.max(), scores.min() + 0.1))
    colours = colormaps["cividis_r"]
    across = np.arange(len(parallel.axes))
    lines = np.array([axis.places for axis in parallel.axes]).T
    lines = lines + _shifts(len(lines))[:, None]
    many = len(lines) >= MANY_DOTS
    order = np.argsort(scores, kind="stable")
    drawn = LineCollection(
        [np.column_stack([across, lines[index]]) for index in order],
        colors=colours(norm(scores[order])),
        alpha=0.35 if many else 0.75,
        linewidths=0.8 if many else 1.2,
        capstyle="projecting",  # this and the next as of a single line
        joinstyle="round",
        rasterized=many,
        zorder=2,
    )
    axes.add_collection(drawn)
    axes.plot(across, lines[0], color=VERMILLION, linewidth=2.6, zorder=5, label="the best")
    _draw_axes(axes, parallel)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), frameon=False, fontsize=9)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.06, aspect=30)
    bar.set_label(VALIDATION)
    return figure


def _shifts(count: int) -> np.ndarray:
    """A little up or down for each line, so that equal ones lie side by side."""
    return (np.arange(count) * 0.61803 % 1 - 0.5) * (0.05 if count > 1 else 0.0)


def _draw_axes(axes: Axes, parallel: Parallel) -> None:
    axes.set_title("Every trial as a line over its hyperparameters", fontsize=11)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.set_xlim(-0.35, len(parallel.axes) - 0.4)
    axes.set_xticks(range(len(parallel.axes)), [axis.name for axis in parallel.axes])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(axis="x", length=0, pad=4)
    axes.spines[:].set_visible(False)
    for place, axis in enumerate(parallel.axes):
        axes.axvline(place, color="#404040", linewidth=0.8, zorder=4)
        for height, label in axis.ticks:
            axes.text(
                place + 0.03,
                height,
                label,
                fontsize=8,
                va="center",
                zorder=6,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
            )


def _legend(figure: Figure, columns: int = 2) -> None:
    figure.legend(loc="outside lower right", ncols=columns, frameon=False, fontsize=9)


def _figure(height: float) -> tuple[Figure, Axes]:
    return new_figure(WIDTH, height)
