"""Write the report of a search: one self-contained HTML page with its figures."""

from __future__ import annotations

import base64
import functools
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.extensions import METRICS
from imdbtune.confirm import description
from imdbtune.report import effects, figures, findings, outlook
from imdbtune.report.charts import charts_of, parallel_names
from imdbtune.report.html_file import (
    MARK,
    check_output_path,
    scripts,
    template,
    ui_address,
    write_page,
)
from imdbtune.report.page_data import ReportData, errors_of, read_report_data, uncertainty_of
from imdbtune.report.published import PUBLISHED, Published
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.connection import connect_existing, hide_secrets
from imdbtune.tracking.entities import PRUNED, Search, Trial
from imdbtune.tracking.mlflow_server import run_page
from imdbtune.tracking.ranking import find_front
from imdbtune.tracking.reader import (
    find_search,
    read_trials,
)
from imdbtune.tracking.sqlite_reader import runs_of
from imdbtune.training import learning_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imdbtune.tracking.connection import MlflowClient

DPI = 160
MAX_ROWS = 10
# Of ReportData, by the same names in the template.
FROM_DATA = (
    *("search", "trials", "finished", "linear", "by_length", "confusion", "importances"),
    *("untried", "confirmed", "borrowed", "config"),
)
FIRST_PARAMS = ("rnn", "depth", "units", "maxlen")


@dataclass(frozen=True)
class ReportFigure:
    """A figure with its name and alternative text."""

    name: str
    figure: Figure
    alt: str

    @functools.cached_property
    def png(self) -> bytes:
        """The figure as a PNG image, sharp on a phone and on paper; drawn once."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=DPI)
        return file.getvalue()

    def _repr_png_(self) -> bytes:
        """Return the image, which a notebook shows."""
        return self.png

    @property
    def data_uri(self) -> str:
        """The image as a URI to embed in a page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def draw_figures(data: ReportData) -> dict[str, ReportFigure]:
    """Return the figures of the page by name; none without a finished trial."""
    finished = data.finished
    if not finished:
        return {}
    uncertainty = uncertainty_of(data)
    accuracies = [value for _, value in findings.with_accuracy(finished)]
    drawn, measure = [*_draw_curves(data)], METRICS[data.metric].label
    if uncertainty.reviews:
        best = accuracies[:MAX_ROWS]
        figure = figures.draw_interval(best, errors_of(data)[: len(best)], data.metric)
        drawn.append(
            ReportFigure("intervals", figure, "The best trials with their 95 % intervals.")
        )
    drawn += _draw_costs(finished, data.metric)
    progress = findings.progress_data(finished, data.search.started_ms)
    if progress.minutes:
        figure = figures.draw_progress(progress, data.linear_level, data.metric)
        drawn.append(ReportFigure("progress", figure, f"Best {measure} so far over time."))
    expected = outlook.expected_best(data.search, finished)
    if expected is not None:
        figure = figures.draw_expected_best(expected, data.metric)
        drawn.append(ReportFigure("expected_best", figure, "Expected best by number of trials."))
    if len(finished) > 1:
        drawn += _draw_effects(data, accuracies)
    return {each.name: each for each in drawn}


def _draw_curves(data: ReportData) -> Iterator[ReportFigure]:
    name, history = data.histories[0]
    own = {metric.name: metric.larger_is_better for metric in data.search.own_metrics}
    for metric in data.search.metric_names:
        curves = learning_curves.curves_data(history, metric, own.get(metric))
        figure = learning_curves.draw_curves(curves, name, width=figures.WIDTH)
        alt = f"Learning curve of the best trial: {learning_curves.label_of(metric)} by epoch."
        yield ReportFigure(f"best_{metric}", figure, alt)
    figure = learning_curves.draw_all_curves(
        learning_curves.leaderboard_curves_data(data.histories, data.metric),
        data.search.name,
        narrow=True,
        linear=data.linear_level,
    )
    yield ReportFigure(
        "curves", figure, f"Validation {METRICS[data.metric].label} of all trials by epoch."
    )


def _draw_costs(finished: Sequence[Trial], metric: str) -> Iterator[ReportFigure]:
    for name, unit in figures.UNITS.items():
        cost = findings.cost_data(finished, name)
        if cost.points:
            ranks = [n for n, t in enumerate(finished, start=1) if t.metrics.get(name, 0) > 0]
            alt = f"{METRICS[metric].title} against {unit}, with the Pareto front."
            yield ReportFigure(name, figures.draw_cost(cost, ranks, metric), alt)


def _draw_effects(data: ReportData, accuracies: Sequence[float]) -> Iterator[ReportFigure]:
    finished, importances, metric = data.finished, data.importances, data.metric
    if importances.alone:
        alt = "Share of the variance that each hyperparameter explains."
        yield ReportFigure("importance", figures.draw_importance(importances, metric), alt)
    limits = effects.shared_limits(accuracies)
    names = effects.varied_params(finished)
    for name in names:
        figure = figures.draw_effect(effects.effect_data(name, finished), limits, metric)
        alt = f"{METRICS[metric].title} of each trial by {name}."
        yield ReportFigure(f"by_{name}", figure, alt)
    if shown := parallel_names(importances, finished):
        figure = figures.draw_parallel(effects.parallel_data(finished, shown), metric)
        yield ReportFigure("parallel", figure, "Parallel coordinates of all trials.")


def render(data: ReportData, drawn: dict[str, ReportFigure], ui: str = "") -> str:
    """Return the page; ``ui`` is the address of MLflow's web interface, or empty for no links."""
    finished = data.finished
    address = hide_secrets(ui)
    names = effects.varied_params(finished)
    ordered = [
        *(n for n in FIRST_PARAMS if n in names),
        *(n for n in names if n not in FIRST_PARAMS),
    ]
    return str(
        template("page.html").render(
            mark=MARK,
            **{name: getattr(data, name) for name in FROM_DATA},
            **_statistics(data),
            tags=data.search.tags,
            error=findings.standard_error,
            wilson_interval=findings.wilson_interval,
            effects=[effects.effect_data(name, finished) for name in ordered],
            names=names,
            describe=description.describe,
            method=description.method,
            test_evaluations=int(data.search.metrics.get(mlflow_names.TEST_EVALUATIONS, 0)),
            metrics=list(data.search.metric_names),
            measure=METRICS[data.metric].label,
            metric_name=data.metric,
            folds_error=mlflow_names.folds_error_name(f"val_{data.metric}"),
            in_percent=findings.is_share(data.confirmed.metric if data.confirmed else data.metric),
            published=_published_results(data),
            drawn=drawn,
            charts=charts_of(data),
            scripts=scripts(),
            accuracy=findings.accuracy,
            versions=_versions(data.facts),
            run_url=functools.partial(run_page, address, data.search.experiment_id),
            ui=address,
            max_rows=MAX_ROWS,
        )
    )


def _statistics(data: ReportData) -> dict[str, object]:
    """Return what the page says of the trials, by the names in its template."""
    finished = data.finished
    return {
        "best": finished[0] if finished else None,
        "front": find_front(data.search, data.trials),
        "uncertainty": uncertainty_of(data) if finished else None,
        "majority": findings.find_baseline(data.baselines, mlflow_names.MAJORITY),
        "expected": outlook.expected_best(data.search, finished),
        "ped_anova": outlook.ped_anova(finished),
        "failures": findings.failures_data(data.trials),
        "pruned": sum(trial.state == PRUNED for trial in finished),
        "fronts": _fronts(finished),
        "seconds": findings.duration_s(data.trials, data.search.started_ms),
    }


def _versions(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of packages among the facts about a search."""
    prefix = "version."
    named = facts.items()
    return {name.removeprefix(prefix): v for name, v in named if name.startswith(prefix)}


def _fronts(finished: Sequence[Trial]) -> dict[str, list[tuple[int, Trial]]]:
    """Return the trials of each Pareto front with their ranks, the cheapest first."""
    found = {}
    for metric in figures.UNITS:
        ranked = [(n, t) for n, t in enumerate(finished, start=1) if t.metrics.get(metric, 0) > 0]
        front = findings.cost_data(finished, metric).front
        found[metric] = [ranked[index] for index in front]
    return found


def _published_results(data: ReportData) -> tuple[Published, ...]:
    """Return published accuracies if they are on the same reviews."""
    return PUBLISHED if data.search.tags.get(mlflow_names.DATA) == "imdb" else ()


def write_report(search_ref: str | None, out: Path, uri: str = "") -> Search:
    """Write the report of a search to a file, replace an older report there; return the search.

    Raises:
        UserError: no such search, or the file cannot be written or is not a report.
    """
    check_output_path(out)
    client = connect_existing(uri, reading=True)
    runs = runs_of(client)
    search = find_search(runs, search_ref)
    data = read_report_data(client, search, read_trials(runs, search))
    page = render(data, draw_figures(data), ui_address(client))
    write_page(out, page)
    return search


def log_report(client: MlflowClient, data: ReportData) -> None:
    """Log the page and its figures as artifacts of the search's run."""
    drawn = draw_figures(data)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        page = render(data, drawn, ui_address(client))
        (folder / "report.html").write_text(page, encoding="utf-8")
        (folder / "figures").mkdir()
        for name, each in drawn.items():
            (folder / "figures" / f"{name}.png").write_bytes(each.png)
        client.log_artifacts(data.search.run_id, str(folder))
