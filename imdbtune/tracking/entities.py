"""What MLflow has of searches, trials and baselines, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from imdbtune.config.extensions import DEFAULT_OBJECTIVE
from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.config.objectives import (
    all_objectives,
    error_name,
    logged_name,
    split_objectives,
)
from imdbtune.config.requirement import parse_requirement
from imdbtune.errors import UserError, escape_control
from imdbtune.tracking import mlflow_names, notebook_html
from imdbtune.tracking.measured_run import MeasuredRun

if TYPE_CHECKING:
    from imdbtune.tracking.sqlite_reader import StoredRun


# The state of a trial that the search has pruned. MLflow has it as KILLED, as it has trials that
# Optuna prunes; mlflow_names.PRUNED distinguishes it from an interrupted one.
PRUNED = "PRUNED"
PARTIAL = "PARTIAL"  # in tables: a cross-validation that was ended before its last fold
ENDED_WELL = ("FINISHED", PRUNED)


@dataclass(frozen=True)
class Trial(MeasuredRun):
    """One trial, or one single training, as MLflow has it."""

    run_id: str
    name: str
    status: str
    params: TrialParams
    metrics: dict[str, float]
    tags: dict[str, str]
    started_ms: int
    ended_ms: int | None
    model_id: str | None
    # Its parameters in MLflow that are not hyperparameters, such as the seed.
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def trial_id(self) -> str:
        """The number of the trial in its search; empty for a single training."""
        return self.tags.get(mlflow_names.TRIAL, "")

    @property
    def key(self) -> str:
        """The name of its run in the journal and the outbox."""
        return self.tags.get(mlflow_names.KEY) or self.run_id

    @property
    def objective(self) -> str:
        """The main objective."""
        return self.tags.get(mlflow_names.OBJECTIVE, DEFAULT_OBJECTIVE)

    @property
    def attempt(self) -> int:
        """The number of this attempt at the trial, from 1."""
        value = self.tags.get(mlflow_names.ATTEMPT, "")
        return int(value) if value.isdecimal() else 1

    @property
    def reads_padding(self) -> bool:
        """Whether its model always reads maxlen ids: trained as in the book, or a user's own."""
        return self.tags.get(mlflow_names.BATCHING) == "padded" or self.params.own is not None

    @property
    def score(self) -> float | None:
        """The best value of the objective; ``None`` while there is none that is finite."""
        return _finite(self.metrics.get(f"best_{self.objective}", math.nan))

    @property
    def measured(self) -> dict[str, float]:
        """Its finite results by the names that objectives and requirements use."""
        names = (*all_objectives(self.own_metrics), error_name(self.objective))
        values = {name: self.metrics.get(logged_name(name), math.nan) for name in names}
        return {name: value for name, value in values.items() if _finite(value) is not None}

    @property
    def state(self) -> str:
        """MLflow's status, or ``PRUNED``."""
        return PRUNED if self.pruned_after else self.status

    @property
    def folds(self) -> int:
        """The number of folds of its cross-validation; 0: it has none."""
        return mlflow_names.folds_of(self.tags)

    @property
    def pruned_after(self) -> int:
        """The epoch (with folds: the fold) after which it was pruned; 0: it was not."""
        return mlflow_names.pruned_after(self.tags) if self.status == "KILLED" else 0

    @property
    def is_partial(self) -> bool:
        """Whether it is a cross-validation that was ended early: its folds may be easier ones."""
        return bool(self.folds and self.pruned_after)

    @property
    def has_result(self) -> bool:
        """Whether it has finished or was pruned, with a value of the objective."""
        return self.state in ENDED_WELL and self.score is not None

    @property
    def is_discarded(self) -> bool:
        """Whether somebody has marked it as not to be chosen."""
        return self.tags.get(mlflow_names.DISCARDED, "").lower() not in ("", "false")

    @property
    def misses(self) -> str:
        """The condition of the search that its results miss; empty: it misses none."""
        text = self.tags.get(mlflow_names.REQUIRE, "")
        own = tuple(self.params.as_dict().items()) if self.params.own else ()
        if not (text and self.has_result):
            return ""
        requirement = parse_requirement(text, own, bool(own), self.own_metrics)
        met = requirement is None or requirement.is_met(self.params, self.measured)
        return "" if met else text

    @property
    def can_win(self) -> bool:
        """Whether it may be the best: a whole result that meets the condition, not discarded."""
        return self.has_result and self.shown_status in ENDED_WELL

    @property
    def shown_status(self) -> str:
        """The status in tables: the state, ``DISCARDED``, ``MISSED`` or ``PARTIAL``."""
        if self.is_discarded:
            return "DISCARDED"
        if self.misses:
            return "MISSED"
        return PARTIAL if self.is_partial else self.state

    @property
    def end_reason(self) -> str:
        """The reason why it failed, was pruned or ended early; else empty."""
        pruned = mlflow_names.pruned_reason(self.pruned_after, self.folds)
        return pruned or self.tags.get(mlflow_names.REASON, "")

    @property
    def reason(self) -> str:
        """The reason why it ended early, cannot be chosen or is discarded; else empty."""
        if self.is_discarded:
            reason = self.tags[mlflow_names.DISCARDED]
            return "" if reason.lower() == "true" else reason
        return f"misses {self.misses}" if self.misses else self.end_reason

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the results and what differs from the defaults, a link."""
        defaults = {} if self.params.own else TrialParams().as_dict()
        left_out = {"trial", "name", "run_id", "reason", *mlflow_names.EPOCH_METRICS}
        told = {
            k: v
            for k, v in as_row(self).items()
            if k not in left_out and v is not None and (k not in defaults or v != defaults[k])
        }
        if defaults:
            told["other hyperparameters"] = "at their defaults"
        title = notebook_html.Html(notebook_html.bold(self.name))
        reason = {"reason": self.reason} if self.reason else {}
        link = {"run": notebook_html.run_link(self.run_id)}
        return notebook_html.facts(title, {**_as_cells(told), **reason, **link})


@dataclass(frozen=True)
class Baseline:
    """The result of a model without recurrence on the reviews of a search, as MLflow has it."""

    run_id: str
    name: str  # mlflow_names.LINEAR or mlflow_names.MAJORITY
    status: str
    metrics: dict[str, float]

    @property
    def accuracy(self) -> float | None:
        """Its accuracy on the validation reviews; ``None`` unless it has finished."""
        value = self.metrics.get("best_val_accuracy")
        return value if self.status == "FINISHED" else None


@dataclass(frozen=True)
class Search(MeasuredRun):
    """One search as MLflow has it."""

    run_id: str
    name: str
    status: str
    experiment_id: str
    tags: dict[str, str]
    metrics: dict[str, float]
    started_ms: int

    @property
    def objective(self) -> str:
        """The main objective, by which trials are ranked."""
        return self.tags.get(mlflow_names.OBJECTIVE, DEFAULT_OBJECTIVE)

    @property
    def objectives(self) -> tuple[str, ...]:
        """All objectives, the main one first."""
        return split_objectives(self.tags.get(mlflow_names.OBJECTIVES, self.objective))

    @property
    def larger_is_better(self) -> bool:
        """Whether the main objective is to be maximised."""
        return self.is_maximised(self.objective)

    @property
    def validation_reviews(self) -> int:
        """The number of reviews that validate each trial; 0 where it is unknown."""
        value = self.tags.get(mlflow_names.VALIDATION_REVIEWS, "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else 0

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the state and the best trial, with links to MLflow."""
        title = f"search {notebook_html.bold(self.name)}, {escape(self.status.lower())}"
        best, best_id = (
            self.tags.get(n, "") for n in (mlflow_names.BEST, mlflow_names.BEST_RUN_ID)
        )
        score = self.metrics.get(f"best_{self.objective}")
        counts = {
            name: int(self.metrics[f"trials_{name}"])
            for name in ("finished", "pruned", "failed")
            if f"trials_{name}" in self.metrics
        }
        rows: dict[str, notebook_html.Cell] = {
            "data": self.tags.get(mlflow_names.DATA),
            "best": notebook_html.run_link(best_id, best) if best else None,
            self.objective: score,
            "trials": ", ".join(f"{count} {name}" for name, count in counts.items()) or None,
            "seconds": self.metrics.get("search_seconds"),
            "run": notebook_html.run_link(self.run_id),
        }
        return notebook_html.facts(notebook_html.Html(title), rows)


def _printable_tags(run: StoredRun) -> dict[str, str]:
    """Return a run's tags without control sequences, which anyone may have written to the store."""
    return {name: escape_control(value) for name, value in run.data.tags.items()}


def as_search(run: StoredRun) -> Search:
    """Return the search that a run of MLflow's is."""
    return Search(
        run_id=run.info.run_id,
        name=escape_control(run.data.tags.get(mlflow_names.SEARCH, run.info.run_name)),
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        tags=_printable_tags(run),
        metrics=dict(run.data.metrics),
        started_ms=run.info.start_time,
    )


def as_trial(run: StoredRun) -> Trial:
    """Return the trial that a run of MLflow's is.

    Raises:
        UserError: its parameters are not those of a trial.
    """
    try:
        params = _params_of(run)
    except UserError as error:
        raise UserError(
            f"run {run.info.run_id} cannot be read: {error} Delete that run in MLflow."
        ) from error
    outputs = run.outputs.model_outputs if run.outputs else []
    return Trial(
        run_id=run.info.run_id,
        name=escape_control(run.info.run_name),
        status=run.info.status,
        params=params,
        metrics=dict(run.data.metrics),
        tags=_printable_tags(run),
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        model_id=outputs[0].model_id if outputs else None,
        settings={k: v for k, v in run.data.params.items() if k not in PARAMETERS},
    )


def _params_of(run: StoredRun) -> TrialParams:
    """Return the hyperparameters of a run; those of an own model have their types in a tag."""
    from imdbtune.tracking.own_models import read_values

    own = read_values(run.data.tags)
    names = set(PARAMETERS) if own is None else own.shared_names
    known = {k: v for k, v in run.data.params.items() if k in names}
    return dataclasses.replace(TrialParams.from_values(known), own=own)


def as_row(trial: Trial) -> dict[str, object]:
    """Return a trial as a flat row: name, status, parameters, metrics, start, reason, run id.

    A metric that is not a finite number, as those of a failed trial may be, is ``None``.
    """
    metrics = {k: _finite(v) for k, v in trial.metrics.items() if "/" not in k}
    return {
        "trial": trial.trial_id,
        "name": trial.name,
        "status": trial.shown_status,
        **trial.params.as_dict(),
        **metrics,
        "started": _in_utc(trial.started_ms),
        "reason": trial.reason or None,
        "run_id": trial.run_id,
    }


def _as_cells(row: Mapping[str, object]) -> dict[str, notebook_html.Cell]:
    """Return the values of a row that a notebook can show."""
    return {k: v if isinstance(v, str | int | float) else str(v) for k, v in row.items()}


def _finite(value: float) -> float | None:
    """Return a finite value, else ``None``; SQL stores have the largest float for infinity."""
    return value if abs(value) < sys.float_info.max else None


def _in_utc(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
