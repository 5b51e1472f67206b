"""Write the report of several searches: their winners, figures and trials side by side."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imdbtune.config.extensions import METRICS
from imdbtune.confirm import description
from imdbtune.confirm.entities import Confirmation
from imdbtune.report import effects, figures, findings
from imdbtune.report.charts import Charts, Scatter, best_so_far, group_scatter
from imdbtune.report.comparison import Comparison, check_comparable, read_comparison
from imdbtune.report.html_file import (
    MARK,
    check_output_path,
    scripts,
    template,
    ui_address,
    write_page,
)
from imdbtune.report.page import ReportFigure, write_report
from imdbtune.tracking.connection import connect_existing, hide_secrets
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.mlflow_server import run_page
from imdbtune.tracking.ranking import find_front
from imdbtune.tracking.sqlite_reader import runs_of

MAX_NAME = 14  # characters of a search's name in a figure


@dataclass(frozen=True)
class Compared:
    """One of the searches."""

    number: int  # from 1, by which figures name it
    search: Search
    trials: Sequence[Trial]  # ranked
    linear: findings.BaselineComparison | None  # with the winner
    confirmed: Confirmation | None
    metric: str = "accuracy"  # that all of the searches have

    @functools.cached_property
    def finished(self) -> list[tuple[Trial, float]]:
        """The trials that have an accuracy: the winner, then the others by their accuracy."""
        found = findings.with_accuracy(self.trials, self.metric)
        front = find_front(self.search, self.trials)
        return sorted(found, key=lambda pair: (front and pair[0] is not front.winner, -pair[1]))

    @property
    def label(self) -> str:
        """Number and name for a figure."""
        name = self.search.name
        return f"{self.number} {name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + '…'}"

    @property
    def winner(self) -> tuple[str, str] | None:
        """Run id and name of the best trial, or of what a confirmation recommends."""
        if self.confirmed is not None:
            return self.confirmed.winner.run_ids[0], self.confirmed.winner.name
        return (self.finished[0][0].run_id, self.finished[0][0].name) if self.finished else None

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the winner: after a confirmation the mean over seeds."""
        if self.confirmed is not None:
            return self.confirmed.winner.mean
        return self.finished[0][1] if self.finished else None

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval of ``accuracy``; NaN where it is unknown."""
        if self.confirmed is not None:
            return self.confirmed.winner.half_width
        if not self.finished:
            return math.nan
        best, reviews = self.finished[0][0], self.search.validation_reviews
        return findings.Z_95 * findings.error_of(best, self.metric, reviews)

    @property
    def certainty(self) -> str:
        """How the accuracy was measured."""
        if self.confirmed is not None:
            return description.describe(self.confirmed)
        return f"best of {len(self.finished)}, not confirmed with other seeds"

    @property
    def seconds(self) -> float:
        """Duration of the search."""
        return findings.duration_s(self.trials, self.search.started_ms)


def write_comparison(search_refs: Sequence[str], out: Path, uri: str = "") -> list[Search]:
    """Write the report of several searches to a file, replace an older report there.

    Raises:
        UserError: no such search, they have other reviews, or the file cannot be written or is not
            a report.
    """
    check_output_path(out)
    client = connect_existing(uri, reading=True)
    comparison = read_comparison(runs_of(client), search_refs)
    searches = [search for search, _ in comparison.searches]
    if len(searches) == 1:  # by its name and by its run id
        return [write_report(searches[0].run_id, out, uri)]
    check_comparable(searches)
    write_page(out, render(comparison, ui_address(client)))
    return searches


def render(comparison: Comparison, ui: str = "") -> str:
    """Return the page; ``ui`` is the address of MLflow's web interface, or empty for no links."""
    shown = {findings.shown_metric(search.objective) for search, _ in comparison.searches}
    metric = shown.pop() if len(shown) == 1 else "accuracy"
    confirmed = {k: c for k, c in comparison.confirmed.items() if c.metric == metric}
    compared = [
        Compared(
            number,
            search,
            trials,
            comparison.linear.get(search.run_id),
            confirmed.get(search.run_id),
            metric,
        )
        for number, (search, trials) in enumerate(comparison.searches, start=1)
    ]
    numbers = {trial.run_id: each.number for each in compared for trial in each.trials}
    best = max((e for e in compared if e.accuracy is not None), key=_accuracy, default=None)
    first = compared[0].search
    return str(
        template("comparison.html").render(
            mark=MARK,
            compared=compared,
            best=best,
            ranked=sorted(compared, key=_accuracy, reverse=True),
            rows=[(numbers[row["run_id"]], row) for row in comparison.rows],
            names=comparison.varied,
            tags=first.tags,
            reviews=first.validation_reviews,
            drawn=draw_figures(compared),
            measure=METRICS[metric].label,
            column=f"best_val_{metric}",
            charts=charts_of(compared, [row["run_id"] for row in comparison.rows]),
            scripts=scripts(),
            run_url=functools.partial(run_page, hide_secrets(ui), first.experiment_id),
            ui=hide_secrets(ui),
        )
    )


def _accuracy(each: Compared) -> float:
    return each.accuracy if each.accuracy is not None else -1.0


def charts_of(compared: Sequence[Compared], run_ids: Sequence[str]) -> Charts:
    """Return the interactive charts; ``run_ids`` are of the trials in the rows of the table."""
    done = [each for each in compared if each.finished]
    if not done:
        return Charts()
    row_of = {run_id: row for row, run_id in enumerate(run_ids)}
    groups = [
        replace(group, rows=tuple(row_of[trial.run_id] for trial, _ in each.finished))
        for group, each in zip(_groups(done), done, strict=True)
    ]
    by_search = effects.Effect("search", tuple(groups))
    progress = _progress(done)
    unit, divisor = figures.time_unit([time for each in progress.values() for time in each.minutes])
    ended = [
        (each, trial.ended_ms, accuracy, row_of[trial.run_id])
        for each in done
        for trial, accuracy in each.finished
        if trial.ended_ms is not None
    ]
    by_time = Scatter(
        "Best so far",
        f"{unit} since the start of each search",
        points=[
            ((ended_ms - each.search.started_ms) / 60_000 / divisor, 100 * accuracy, row)
            for each, ended_ms, accuracy, row in ended
        ],
        zero=True,
        owners=[each.label for each, *_ in ended],
        steps={label: best_so_far(each, divisor) for label, each in progress.items()},
    )
    metric = done[0].metric
    title = figures.effect_title("search", metric)
    scatters = {"by_search": group_scatter(by_search, title), "progress": by_time}
    return Charts(figures.label_of(metric), scatters)


def draw_figures(compared: Sequence[Compared]) -> dict[str, ReportFigure]:
    """Return the figures of the page by name; none without a finished trial."""
    done = [each for each in compared if each.finished]
    if not done:
        return {}
    groups = _groups(done)
    metric = done[0].metric
    title = METRICS[metric].title
    limits = effects.shared_limits([value for group in groups for value in group.accuracies])
    by_search = figures.draw_effect(effects.Effect("search", groups), limits, metric)
    progress = _progress(done)
    return {
        "by_search": ReportFigure("by_search", by_search, f"{title} of each trial by search."),
        "progress": ReportFigure(
            "progress",
            figures.draw_progress_of_searches(progress, metric),
            f"Best {METRICS[metric].label} so far of each search over time.",
        ),
    }


def _groups(done: Sequence[Compared]) -> tuple[effects.Group, ...]:
    """Return the accuracies of each search."""
    return tuple(
        effects.Group(each.label, float(position), tuple(value for _, value in each.finished))
        for position, each in enumerate(done)
    )


def _progress(done: Sequence[Compared]) -> dict[str, findings.Progress]:
    return {
        each.label: findings.progress_data(
            [t for t, _ in each.finished], each.search.started_ms, each.metric
        )
        for each in done
    }
