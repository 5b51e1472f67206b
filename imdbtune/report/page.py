"""A search as one HTML page that needs nothing else, and its figures."""

from __future__ import annotations

import base64
import functools
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.config.search_space import word
from imdbtune.confirm import results
from imdbtune.confirm.results import Confirmation
from imdbtune.errors import UserError, quote_path
from imdbtune.files import require_regular_file
from imdbtune.report import effects, figures, findings
from imdbtune.report.published import PUBLISHED
from imdbtune.tracking import writer
from imdbtune.tracking.connection import hide_secrets
from imdbtune.tracking.mlflow_server import HOST, PORT, run_page
from imdbtune.tracking.reader import (
    Baseline,
    Search,
    Trial,
    read_baselines,
    read_history,
    read_text,
)
from imdbtune.tracking.sqlite_reader import runs_of
from imdbtune.training import learning_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.training.spec import Epoch

LOCAL_UI = f"http://{HOST}:{PORT}"
CURVES_SHOWN = 200
AXES_SHOWN = 6
DPI = 160
BEST_SHOWN = 10
ALWAYS = ("rnn", "depth", "units", "maxlen")
MARK = "<!-- a report of imdbtune -->"


@dataclass(frozen=True)
class ReportData:
    """All that a report is made of, read from MLflow."""

    search: Search
    trials: list[Trial]  # ranked
    histories: list[tuple[str, list[Epoch]]]  # of finished trials, the best first
    config: str  # TOML; empty where it cannot be read
    confirmed: Confirmation | None = None  # of the best configurations, by other seeds
    baselines: list[Baseline] = field(default_factory=list)

    @functools.cached_property
    def done(self) -> list[Trial]:
        """The trials that have an accuracy, the best by the objective first."""
        return [trial for trial, _ in findings.measured(self.trials)]

    @functools.cached_property
    def shares(self) -> tuple[effects.Importance, ...]:
        """What each hyperparameter explains of the differences; empty where that cannot be told."""
        return effects.importance_data(self.done)


def read_report_data(client: MlflowClient, search: Search, trials: list[Trial]) -> ReportData:
    """Read what a report needs beside the trials: the curves of the best, the configuration."""
    runs = runs_of(client)
    done = [trial for trial, _ in findings.measured(trials)][:CURVES_SHOWN]
    others = [(t.name, read_history(runs, t.run_id, ("val_accuracy",))) for t in done[1:]]
    best = [(t.name, read_history(runs, t.run_id)) for t in done[:1]]
    config = read_text(client, search.run_id, "config.toml")
    return ReportData(
        search,
        trials,
        best + others,
        config,
        results.read(client, search),
        read_baselines(runs, search),
    )


@dataclass(frozen=True)
class Drawn:
    """A figure with the text that stands for it where it cannot be seen."""

    name: str
    figure: Figure
    alt: str

    @functools.cached_property
    def png(self) -> bytes:
        """The figure as an image, sharp on a phone and on paper; drawn once."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=DPI)
        return file.getvalue()

    @property
    def data_uri(self) -> str:
        """The image for the inside of a page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def draw_all(material: ReportData) -> dict[str, Drawn]:
    """Every figure of the page by its name; without a finished trial there are none."""
    done = material.done
    if not done:
        return {}
    certainty = certainty_of(material)
    accuracies = [value for _, value in findings.measured(done)]
    drawn = [*_curves(material)]
    if certainty.reviews:
        best = accuracies[:BEST_SHOWN]
        figure = figures.draw_interval(certainty, best)
        drawn.append(Drawn("intervals", figure, "The best trials with their 95 % intervals."))
    drawn += _costs(done)
    progress = findings.progress_data(done, material.search.started_ms)
    if progress.minutes:
        figure = figures.draw_progress(progress, linear_of(material))
        drawn.append(Drawn("progress", figure, "Best accuracy so far over the time of the search."))
    if len(done) > 1:
        drawn += _effects(material.shares, done, accuracies)
    return {each.name: each for each in drawn}


def _curves(material: ReportData) -> list[Drawn]:
    name, history = material.histories[0]
    found = []
    for metric in ("accuracy", "loss"):
        figure = learning_curves.draw_curves(
            learning_curves.curves_data(history, metric), name, width=figures.WIDTH
        )
        found.append(Drawn(f"best_{metric}", figure, f"{metric} of the best trial by epoch."))
    every = learning_curves.leaderboard_curves_data(material.histories, "accuracy")
    linear = linear_of(material)
    figure = learning_curves.draw_all_curves(
        every, material.search.name, narrow=True, linear=linear
    )
    return [*found, Drawn("curves", figure, "Validation accuracy of all trials by epoch.")]


def _costs(done: Sequence[Trial]) -> list[Drawn]:
    found = []
    for metric in figures.UNITS:
        cost = findings.cost_data(done, metric)
        if cost.points:
            ranks = [n for n, t in enumerate(done, start=1) if t.metrics.get(metric, 0) > 0]
            about = f"Accuracy against {figures.UNITS[metric]}, with the Pareto front."
            found.append(Drawn(metric, figures.draw_cost(cost, ranks), about))
    return found


def _effects(
    shares: Sequence[effects.Importance], done: Sequence[Trial], accuracies: Sequence[float]
) -> list[Drawn]:
    found = []
    if shares:
        about = "Share of the variance that each hyperparameter explains."
        found.append(Drawn("importance", figures.draw_importance(shares), about))
    limits = figures.shared_limits(accuracies)
    names = effects.varied(done)
    for name in names:
        figure = figures.draw_effect(effects.effect_data(name, done), limits)
        found.append(Drawn(f"by_{name}", figure, f"Accuracy of each trial by {name}."))
    if len(names) > 1:
        ordered = [share.name for share in shares] or names
        foremost = [name for name in names if name in ordered[:AXES_SHOWN]]
        figure = figures.draw_parallel(effects.parallel_data(done, foremost))
        found.append(Drawn("parallel", figure, "Parallel coordinates of all trials."))
    return found


def certainty_of(material: ReportData) -> findings.Certainty:
    """How sure the best trial's accuracy is."""
    accuracies = [value for _, value in findings.measured(material.done)]
    reviews = material.search.validation_reviews
    return findings.certainty_data(accuracies, accuracies[0], reviews)


def baseline_comparison_of(material: ReportData) -> findings.BaselineComparison | None:
    """The linear model beside the best trial, if the search has one."""
    reviews = material.search.validation_reviews
    return findings.compare_with_baseline(material.baselines, material.done, reviews)


def linear_of(material: ReportData) -> float | None:
    """The linear model's accuracy."""
    found = baseline_comparison_of(material)
    return found.accuracy if found else None


def render(material: ReportData, drawn: dict[str, Drawn], ui: str = LOCAL_UI) -> str:
    """The page; ``ui`` is where MLflow's pages are."""
    done = material.done
    shown_ui = hide_secrets(ui)
    names = effects.varied(done)
    ordered = [*(n for n in ALWAYS if n in names), *(n for n in names if n not in ALWAYS)]
    return str(
        _template().render(
            mark=MARK,
            search=material.search,
            tags=material.search.tags,
            trials=material.trials,
            done=done,
            best=done[0] if done else None,
            certainty=certainty_of(material) if done else None,
            linear=baseline_comparison_of(material),
            majority=findings.reached(material.baselines, writer.MAJORITY),
            shares=material.shares,
            effects=[effects.effect_data(name, done) for name in ordered],
            names=names,
            failures=findings.failures_data(material.trials),
            confirmed=material.confirmed,
            how_sure=results.in_words,
            method=results.METHOD,
            looks=int(material.search.metrics.get(writer.TEST_EVALUATIONS, 0)),
            fronts=_fronts(done),
            config=material.config,
            published=_published(material),
            drawn=drawn,
            seconds=findings.duration_s(material.trials, material.search.started_ms),
            accuracy=findings.accuracy,
            standard_error=findings.standard_error,
            versions={
                name.removeprefix("version."): value
                for name, value in material.search.tags.items()
                if name.startswith("version.")
            },
            run_url=functools.partial(run_page, shown_ui, material.search.experiment_id),
            ui=shown_ui,
            shown=BEST_SHOWN,
        )
    )


def _fronts(done: Sequence[Trial]) -> dict[str, list[tuple[int, Trial]]]:
    """For each cost the trials of the Pareto front with their ranks, the cheapest first."""
    found = {}
    for metric in figures.UNITS:
        ranked = [(n, t) for n, t in enumerate(done, start=1) if t.metrics.get(metric, 0) > 0]
        front = findings.cost_data(done, metric).front
        found[metric] = [ranked[index] for index in front]
    return found


def _published(material: ReportData) -> tuple[Any, ...]:
    """Only beside results on the same reviews."""
    return PUBLISHED if material.search.tags.get(writer.DATA) == "imdb" else ()


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{share * 100:.{digits}f} %"
    environment.filters["points"] = lambda share, digits=1: f"{share * 100:.{digits}f}"
    environment.filters["value"] = lambda value: (
        f"{value:.3g}" if isinstance(value, float) else word(value)
    )
    return environment.get_template("page.html")


def check_out(path: Path) -> None:
    """Raise UserError unless a report can be written to ``path`` without harm to another file."""
    try:
        if not path.parent.is_dir():
            raise UserError(f"no folder {quote_path(path.parent)} for the report; make it first.")
        if path.is_dir():
            raise UserError(f"{quote_path(path)} is a folder; name a file in it.")
        if path.exists() and not _is_report(path):
            raise UserError(
                f"{quote_path(path)} is there and is no report; name another file with --out."
            )
    except OSError as error:
        raise UserError(
            f"{quote_path(path)} cannot be used: {error.strerror}; name another file with --out."
        ) from error


def _is_report(path: Path) -> bool:
    with require_regular_file(path).open("rb") as file:
        return MARK.encode() in file.read(200)


def log_report(client: MlflowClient, material: ReportData, ui: str = LOCAL_UI) -> None:
    """The page and its figures as artifacts of the search's run."""
    drawn = draw_all(material)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        page = render(material, drawn, ui)
        (folder / "report.html").write_text(page, encoding="utf-8")
        (folder / "figures").mkdir()
        for name, each in drawn.items():
            (folder / "figures" / f"{name}.png").write_bytes(each.png)
        client.log_artifacts(material.search.run_id, str(folder))
