"""Learning curves: first computed, then drawn, without pyplot's global state and display.

Only the functions that draw import Matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.config.extensions import METRICS
from imdbtune.models.metrics.metric import format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Epoch = Mapping[str, float]

# Okabe and Ito's palette (2008), distinguishable with the common kinds of colour blindness.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
BEST_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE)
GREY = "#808080"


@dataclass(frozen=True)
class Curves:
    """One metric of one trial by epoch; NaN where an epoch has no finite value."""

    epochs: tuple[int, ...]  # counted from 1
    train: tuple[float, ...]  # empty if the history lacks the metric
    validation: tuple[float, ...]  # empty without validation
    best_epoch: int | None  # by validation, the first of equals; None without a finite value
    metric: str  # its name

    @property
    def best_value(self) -> float:
        """The validation value at ``best_epoch``; NaN without one."""
        if self.best_epoch is None:
            return math.nan
        return self.validation[self.epochs.index(self.best_epoch)]


@dataclass(frozen=True)
class AllCurves:
    """One metric of all trials of a search, best trial first, trials without a value last."""

    trials: tuple[tuple[str, Curves], ...]  # (name, curves)
    metric: str


def curves_data(
    history: Sequence[Epoch], metric: str, larger_is_better: bool | None = None
) -> Curves:
    """Return the curves of the metric with this name.

    Args:
        history: a mapping for each epoch, with ``epoch`` (counted from 1) and optionally ``metric``
            and ``val_<metric>``.
        metric: its name.
        larger_is_better: of a metric of the user's own.
    """
    larger = METRICS[metric].larger_is_better if larger_is_better is None else larger_is_better
    epochs = tuple(int(row["epoch"]) for row in history)
    validation = _values(history, f"val_{metric}")
    finite = [i for i, value in enumerate(validation) if math.isfinite(value)]
    best = min(finite, key=lambda i: _sort_key(validation[i], larger), default=None)
    best_epoch = None if best is None else epochs[best]
    return Curves(epochs, _values(history, metric), validation, best_epoch, metric)


def leaderboard_curves_data(
    trials: Sequence[tuple[str, Sequence[Epoch]]],
    metric: str,
    larger_is_better: bool | None = None,
) -> AllCurves:
    """Return the curves of each ``(name, history)``, ranked by their best validation value."""
    larger = METRICS[metric].larger_is_better if larger_is_better is None else larger_is_better
    curves = [(name, curves_data(history, metric, larger)) for name, history in trials]
    ranked = sorted(curves, key=lambda trial: _sort_key(trial[1].best_value, larger))
    return AllCurves(tuple(ranked), metric)


def label_of(metric: str) -> str:
    """Return how sentences name a metric; one of the user's own has its name only."""
    return METRICS[metric].label if metric in METRICS else metric


def draw_curves(curves: Curves, subtitle: str = "", width: float = 6.4) -> Figure:
    """Draw the figure of Listing 6.24 for one trial: training as dots, validation as a line."""
    figure, axes = _figure(width, 0.75 * width, curves.metric)
    figure.subplots_adjust(left=0.8 / width, right=0.97, top=0.83, bottom=0.2)
    _draw_titles(figure, f"Training and validation {label_of(curves.metric)}", subtitle)
    if curves.train:
        label = "training" + _missing_note(curves.train)
        axes.plot(curves.epochs, curves.train, "o", color=BLUE, markersize=5, label=label)
    if curves.validation:
        label = "validation" + _missing_note(curves.validation)
        _draw_line(axes, curves, color=BLUE, label=label)
    _scale(axes, curves.epochs, [*curves.train, *curves.validation], curves.metric)
    _mark_best(axes, curves)
    if curves.train or curves.validation:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    return figure


def draw_all_curves(
    all_curves: AllCurves, subtitle: str = "", narrow: bool = False, linear: float | None = None
) -> Figure:
    """Draw the validation curves of all trials: the best five in colour, the others in grey.

    Args:
        all_curves: the trials, best first.
        subtitle: below the title.
        narrow: put the legend below the axes, not at their side.
        linear: value of the linear baseline, drawn as a dashed line.
    """
    drawn = [trial for trial in all_curves.trials if trial[1].best_epoch is not None]
    best, others = drawn[: len(BEST_COLOURS)], drawn[len(BEST_COLOURS) :]
    missing = len(all_curves.trials) - len(drawn)
    if narrow:
        legend = 2 * len(best) + sum(map(bool, (others, missing, linear)))  # lines
        above, axes_height, below = 0.73, 2.84, 0.76 + 0.185 * legend  # inches
        height = above + axes_height + below
        figure, axes = _figure(5.4, height, all_curves.metric)
        figure.subplots_adjust(0.14, below / height, 0.97, 1 - above / height)
    else:
        figure, axes = _figure(9.0, 4.8, all_curves.metric)
        figure.subplots_adjust(left=0.08, right=0.64, top=0.86, bottom=0.12)
    _draw_titles(figure, f"Validation {label_of(all_curves.metric)} of all trials", subtitle)
    _draw_best(axes, best)
    _draw_others(axes, [curves for _, curves in others])
    if others:
        axes.plot([], [], color=GREY, linewidth=0.7, label=f"others: {len(others)}")
    if missing:
        axes.plot([], [], " ", label=f"without a finite value: {missing}")
    epochs = [epoch for _, curves in drawn for epoch in curves.epochs]
    values = [value for _, curves in drawn for value in curves.validation]
    if linear is not None:
        values.append(linear)
        draw_level(axes, linear)
    _scale(axes, epochs, values, all_curves.metric)
    if all_curves.trials:
        anchor = (0.0, -0.15) if narrow else (1.01, 1.0)
        axes.legend(loc="upper left", bbox_to_anchor=anchor, frameon=False, fontsize=9)
    return figure


def draw_level(axes: Axes, value: float) -> None:
    """Draw the value of the linear baseline as a dashed horizontal line."""
    axes.axhline(value, color="#404040", linestyle="--", linewidth=1.2, label="linear model")


def save_png(figure: Figure, path: Path, dpi: int = 100) -> None:
    """Write a figure as PNG, with ``dpi`` pixels per inch."""
    figure.savefig(path, dpi=dpi, format="png")


def _values(history: Sequence[Epoch], key: str) -> tuple[float, ...]:
    if not any(key in row for row in history):
        return ()
    values = (float(row.get(key, math.nan)) for row in history)
    return tuple(value if math.isfinite(value) else math.nan for value in values)


def _sort_key(value: float, larger_is_better: bool) -> float:
    """Return a key that sorts the best value first, NaN last."""
    if math.isnan(value):
        return math.inf
    return -value if larger_is_better else value


def new_figure(width: float, height: float, fitted: bool = True) -> tuple[Figure, Axes]:
    """Return an empty figure of this size in inches, and its axes in the common style.

    If ``fitted``, Matplotlib fits the margins to the labels; otherwise the caller sets them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if fitted else None)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _figure(width: float, height: float, metric: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(width, height, fitted=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel(METRICS[metric].axis if metric in METRICS else metric)
    return figure, axes


def _draw_titles(figure: Figure, title: str, subtitle: str) -> None:
    """Draw the title, and below it the subtitle; a ``$`` in a run's name starts no formula."""
    middle = (figure.subplotpars.left + figure.subplotpars.right) / 2
    figure.text(middle, 0.965, title, ha="center", va="center", fontsize=12)
    line = _shorten(subtitle, 64)
    figure.text(middle, 0.915, line, ha="center", va="center", fontsize=9, parse_math=False)


def _shorten(name: str, limit: int) -> str:
    """Return ``name`` on one line, cut in the middle: names often differ only at their ends."""
    name = " ".join(name.split())
    if len(name) <= limit:
        return name
    return f"{name[: (limit - 1) // 2]}…{name[-(limit // 2) :]}"


def _escape_math(text: str) -> str:
    """Return ``text`` for a legend, which would render text between two ``$`` as a formula."""
    return text.replace("$", r"\$")


def _missing_note(values: Sequence[float]) -> str:
    missing = sum(map(math.isnan, values))
    return f" ({missing} of {len(values)} not finite)" if missing else ""


def _isolated(values: Sequence[float]) -> list[int]:
    """Return the indices of finite values without a finite neighbour, which no line shows."""
    padded = [math.nan, *values, math.nan]
    isnan = list(map(math.isnan, padded))
    return [i for i in range(len(values)) if isnan[i] and isnan[i + 2] and not isnan[i + 1]]


def _draw_line(axes: Axes, curves: Curves, **style: Any) -> None:
    """Draw the validation curve, with diamonds at isolated values."""
    isolated = _isolated(curves.validation)
    axes.plot(
        curves.epochs,
        curves.validation,
        "-",
        marker="D" if isolated else None,
        markevery=isolated or None,
        markerfacecolor="none",
        **style,
    )


def _draw_best(axes: Axes, best: Sequence[tuple[str, Curves]]) -> None:
    for rank, (name, curves) in enumerate(best):
        value = f"{format_value(curves.metric, curves.best_value)} at epoch {curves.best_epoch}"
        _draw_line(
            axes,
            curves,
            color=BEST_COLOURS[rank],
            linewidth=1.5 if rank else 2.5,
            zorder=10 - rank,
            label=f"{rank + 1}. {_escape_math(_shorten(name, 30))}\n    {value}",
        )


def _draw_others(axes: Axes, others: Sequence[Curves]) -> None:
    """Draw thin grey lines, more transparent the more there are."""
    alpha = max(0.15, min(0.6, 20 / (len(others) + 1)))
    for curves in others:
        _draw_line(axes, curves, color=GREY, alpha=alpha, linewidth=0.7, markersize=4)


def _scale(axes: Axes, epochs: Sequence[int], values: Sequence[float], metric: str) -> None:
    """Set whole-numbered epoch ticks, and a logarithmic scale if the metric has diverged."""
    from matplotlib.ticker import MaxNLocator

    first, last = min(epochs, default=1), max(epochs, default=1)
    axes.set_xlim(first - 0.8, last + 0.8)
    locator = MaxNLocator(nbins=12, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axes.xaxis.set_major_locator(locator)
    finite = [value for value in values if not math.isnan(value)]
    log_above = METRICS[metric].log_above if metric in METRICS else math.inf
    if max(finite, default=0) > log_above and min(finite) > 0:
        axes.set_yscale("log")
    elif finite:
        axes.ticklabel_format(axis="y", useOffset=False)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite value", ha="center", transform=axes.transAxes)


def _mark_best(axes: Axes, curves: Curves) -> None:
    """Draw a vertical line at the best epoch, with its label above the axes, clear of curves."""
    if curves.best_epoch is None:
        return
    axes.axvline(curves.best_epoch, color=GREY, linewidth=0.8, zorder=0.5)
    first, last = axes.get_xlim()
    position = (curves.best_epoch - first) / (last - first)
    align = "left" if position < 0.2 else "right" if position > 0.8 else "center"
    axes.text(
        position,
        1.01,
        f"best: {format_value(curves.metric, curves.best_value)} at epoch {curves.best_epoch}",
        transform=axes.transAxes,
        ha=align,
        va="bottom",
        fontsize=9,
    )
