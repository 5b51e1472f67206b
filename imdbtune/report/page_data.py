"""What a report says of one search, read from MLflow."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import Scalar
from imdbtune.config.schema import parse_config
from imdbtune.config.search_space import SearchSpace
from imdbtune.confirm import results
from imdbtune.confirm.entities import Confirmation
from imdbtune.errors import UserError
from imdbtune.models.metrics.metric import epoch_names
from imdbtune.report import findings, paired
from imdbtune.report.against_linear import find_comparison
from imdbtune.report.importance import Importances, importance_data
from imdbtune.search.borrowed import BorrowedRow, read_borrowed
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Baseline, Search, Trial
from imdbtune.tracking.predictions import (
    read_all,
    read_all_draws,
    read_confusion,
    read_length_groups,
)
from imdbtune.tracking.reader import read_baselines, read_history, read_text
from imdbtune.tracking.run_record import read_facts
from imdbtune.tracking.sqlite_reader import runs_of
from imdbtune.training.confusion import Confusion
from imdbtune.training.length_groups import LengthGroup

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.training.spec import Correctness, Epoch, Floats

MAX_CURVES = 200


@dataclass(frozen=True)
class ReportData:
    """The contents of a report, read from MLflow."""

    search: Search
    trials: list[Trial]  # ranked
    histories: list[tuple[str, list[Epoch]]]  # of finished trials, the best first
    config: str  # TOML; empty if it cannot be read
    confirmed: Confirmation | None = None
    baselines: list[Baseline] = field(default_factory=list)
    linear: findings.BaselineComparison | None = None  # with the best trial
    rights: list[Correctness] = field(default_factory=list)  # of finished trials; empty: unknown
    draws: list[Floats] = field(default_factory=list)  # the same for another metric than accuracy
    by_length: tuple[LengthGroup, ...] = ()  # of the best trial
    confusion: Confusion | None = None  # of the best trial; None: two labels
    facts: Mapping[str, str] = field(default_factory=dict)  # of the search, with its versions
    borrowed: list[BorrowedRow] = field(default_factory=list)

    @property
    def metric(self) -> str:
        """The metric of the statistics: that of the objective, or accuracy."""
        return findings.shown_metric(self.search.objective)

    @property
    def linear_level(self) -> float | None:
        """The value of that metric that the linear model reaches, if it is known."""
        model = findings.find_baseline(self.baselines, mlflow_names.LINEAR)
        return model.metrics.get(f"best_val_{self.metric}") if model else None

    @functools.cached_property
    def finished(self) -> list[Trial]:
        """The trials that have an accuracy, in the order of their ranks."""
        return [trial for trial, _ in findings.with_accuracy(self.trials)]

    @functools.cached_property
    def space(self) -> SearchSpace | None:
        """The space of the search; ``None``: its configuration is one of another version."""
        try:
            return parse_config(tomllib.loads(self.config)).space
        except (ValueError, UserError):
            return None

    @property
    def untried(self) -> dict[str, list[Scalar]]:
        """The values that no trial has, by hyperparameter; empty if the space is not known."""
        return findings.untried_values(self.space, self.trials) if self.space else {}

    @functools.cached_property
    def importances(self) -> Importances:
        """The importance of each hyperparameter; empty with too few trials."""
        return importance_data(self.finished, self.space)


def read_report_data(client: MlflowClient, search: Search, trials: list[Trial]) -> ReportData:
    """Read what a report needs besides the trials: learning curves, configuration, baselines."""
    runs = runs_of(client)
    finished = [trial for trial, _ in findings.with_accuracy(trials)][:MAX_CURVES]
    metric = findings.shown_metric(search.objective)
    wanted, names = (f"val_{metric}",), epoch_names(search.metric_names)
    others = [(t.name, read_history(runs, t.run_id, wanted)) for t in finished[1:]]
    best = [(t.name, read_history(runs, t.run_id, names)) for t in finished[:1]]
    config, run_ids = read_text(client, search.run_id, "config.toml"), [t.run_id for t in finished]
    baselines, confirmed = read_baselines(runs, search), results.read(runs, search)
    return ReportData(
        search,
        trials,
        best + others,
        config,
        confirmed,
        baselines,
        find_comparison(runs, search, finished, baselines, confirmed),
        read_all(runs, run_ids) if metric == "accuracy" else [],
        [] if metric == "accuracy" else read_all_draws(runs, run_ids),
        read_length_groups(runs, finished[0].run_id) if finished else (),
        read_confusion(runs, finished[0].run_id) if finished else None,
        read_facts(runs, search),
        read_borrowed(runs, search),
    )


def errors_of(data: ReportData) -> list[float]:
    """Return the standard error of each finished trial's value."""
    reviews = data.search.validation_reviews
    return [findings.error_of(trial, data.metric, reviews) for trial in data.finished]


def uncertainty_of(data: ReportData) -> findings.Uncertainty:
    """Return the uncertainty of the best trial's accuracy."""
    accuracies = [value for _, value in findings.with_accuracy(data.finished)]
    if data.rights:
        return paired.uncertainty_data(accuracies, data.rights)
    if data.draws:
        reviews = data.search.validation_reviews
        return paired.uncertainty_of_draws(accuracies, data.draws, reviews)
    if data.metric != "accuracy":
        return findings.Uncertainty(accuracies[0], 0, len(accuracies), 1, 0.0)
    return findings.uncertainty_data(accuracies, data.search.validation_reviews)
