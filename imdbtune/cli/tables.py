"""Format trials, durations and tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.config.objectives import statistic_of
from imdbtune.errors import escape_control, short_repr
from imdbtune.models.metrics.metric import best_names, format_value

if TYPE_CHECKING:  # only a few commands read MLflow
    from imdbtune.confirm.entities import Confirmation
    from imdbtune.report.findings import BaselineComparison
    from imdbtune.search.borrowed import BorrowedRow
    from imdbtune.tracking.entities import Search, Trial

INTEGER_METRICS = ("best_epoch", "epochs_run", "parameter_count")


def pluralize(number: int, noun: str) -> str:
    """Return a count with its noun: ``1 trial``, ``1,024 trials``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Return a duration as ``40 s`` or ``3 min``."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def describe_columns(reading: Mapping[str, object]) -> str:
    """Return which column of a table holds the texts, the labels and the split."""
    condition = reading.get("label_at")
    names = {kind: reading.get(f"{kind}_column", "") for kind in ("text", "label", "split")}
    return ", ".join(
        f"{kind} in column {short_repr(name)}"
        + (f" (positive: {condition})" if kind == "label" and condition else "")
        for kind, name in names.items()
        if name not in ("", "none")
    )


def leaderboard(
    search: Search, trials: Sequence[Trial], varied: Sequence[str], limit: int | None = None
) -> str:
    """Return the title of a search and the table of its trials, at most ``limit`` of them."""
    from imdbtune.tracking.ranking import as_rows, outcome_columns

    columns = default_columns(varied, outcome_columns(search))
    return "\n".join([search_title(search), table(as_rows(search, trials)[:limit], columns)])


def front_sentence(search: Search, trials: Sequence[Trial]) -> str:
    """Return which trial of a Pareto front is the best one, and why; empty without a front."""
    from imdbtune.tracking.ranking import find_front

    front = find_front(search, trials)
    return f"best: {front.winner.name}, {front.reason}" if front else ""


def borrowed_sentence(
    search: Search, trials: Sequence[Trial], borrowed: Sequence[BorrowedRow]
) -> str:
    """Return what a search has borrowed, in a line; empty: nothing."""
    if not borrowed:
        return ""
    best, count = borrowed[0], pluralize(len(borrowed), "configuration")
    text = f"{count} borrowed, the best: {best.name} of search {best.search}, {best.score:.4f}"
    scores = [trial.score for trial in trials if trial.can_win and trial.score is not None]
    sign = 1.0 if search.larger_is_better else -1.0
    if all(sign * best.score > sign * score for score in scores):
        text += "; no trial here is better"
    return text


def search_title(search: Search) -> str:
    """Return the name, run id, data and status of a search in one line."""
    from imdbtune.tracking import mlflow_names

    data = search.tags.get(mlflow_names.DATA, "?")
    return f"search {search.name} ({search.run_id}) on {data}, {search.status.lower()}"


def default_columns(varied: Sequence[str], objectives: Sequence[str]) -> list[str]:
    """Return the columns shown by default, by the names that ``--columns`` takes."""
    columns = ["name", *varied, *objectives, "best_epoch", "train_seconds", "status"]
    return list(dict.fromkeys(columns))


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Return an aligned table; a trial that has ended well starts with its rank."""
    from imdbtune.tracking.entities import ENDED_WELL

    head = ["#", *columns]
    ranks = [str(n) if row.get("status") in ENDED_WELL else "-" for n, row in enumerate(rows, 1)]
    lines = [
        [rank, *(format_cell(row, column) for column in columns)]
        for rank, row in zip(ranks, rows, strict=True)
    ]
    right = [False, *(any(_is_number(row.get(c)) for row in rows) for c in columns)]
    return align_columns([head, *lines], right)


def align_columns(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return lines of cells as aligned columns; ``right`` says which are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if align_right else text.ljust(width)
            for text, width, align_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def format_cell(row: Mapping[str, object], column: str) -> str:
    """Return a value of a row as text; control characters are escaped."""
    value = row.get(column)
    if value is None:
        return "-"
    if column == "status" and value in ("PRUNED", "PARTIAL", "MISSED"):
        return escape_control(str(row["reason"]))  # pruned after epoch 2
    if column == "front":
        return "*" if value else ""
    if column == "status" and row.get("reason"):
        return escape_control(f"{str(value).lower()}: {row['reason']}")
    if column == "status":
        return str(value).lower()
    if isinstance(value, float) and column not in PARAMETERS:
        if column in INTEGER_METRICS:
            return f"{value:.0f}"
        return f"{value:.1f}" if column.endswith("seconds") else format_value(column, value)
    return escape_control(value) if isinstance(value, str) else _format_scalar(value)


def _format_scalar(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def details(
    trial: Trial,
    search: Search | None = None,
    linear: BaselineComparison | None = None,
    confirmed: Confirmation | None = None,
    chosen: str = "",
    *,
    everything: bool = False,
) -> str:
    """Return the facts about one trial, a line each: certainty, hyperparameters and metrics.

    Unless ``everything`` is asked for, hyperparameters at their defaults and figures that an
    earlier line has are left out. ``linear`` compares it with the linear model, and ``chosen`` is
    why it is the best one.
    """
    from imdbtune.confirm import description
    from imdbtune.report.comparison import METRIC_COLUMNS
    from imdbtune.tracking.mlflow_names import folds_error_name

    lines = [f"{trial.name}  (run {trial.run_id})"]
    told = set()
    if search is not None:
        lines.append(f"best of search {search.name} (run {search.run_id})")
        interval = "" if confirmed else interval_of(trial, search)
        told |= {f"best_val_{statistic_of(trial.objective)}"} if interval else set()
        certainty = description.describe(confirmed) if confirmed else interval
        comparison = str(linear or "")
        lines += [f"  {line}" for line in (chosen, certainty, comparison) if line]
    defaults = {} if everything or trial.params.own else TrialParams().as_dict()
    params = {k: v for k, v in trial.params.as_dict().items() if v != defaults.get(k)}
    lines += [f"  {name:<20}{_format_scalar(value)}" for name, value in params.items()]
    if trial.params.own is not None:
        lines.insert(1, f"  {'model':<20}{trial.params.own.build}")
    elif len(params) < len(PARAMETERS):
        others = "other" if params else "all"
        lines.append(f"  {others} hyperparameters have their defaults; --verbose lists them")
    errors = [folds_error_name(trial.objective)] if trial.folds else []
    names = [n for n in best_names(trial.metric_names) if n not in METRIC_COLUMNS]
    tested = [f"test_{metric}" for metric in trial.metric_names]
    for name in (*errors, *names, *METRIC_COLUMNS, *tested):
        if name in trial.metrics and (everything or name not in told):
            value = trial.metrics[name]
            whole = value.is_integer() or abs(value) > 100
            figure = f"{value:,.0f}" if whole else format_value(name, value)
            told_as = "standard error" if name in errors else name.replace("_", " ")
            lines.append(f"  {told_as:<20}{figure}")
    return "\n".join(lines)


def trial_line(trial: Trial) -> str:
    """Return a trial's name, its score and its run; a refit has no score."""
    score = "trained on all training reviews"
    if trial.score is not None:
        score = f"{trial.objective} {format_value(trial.objective, trial.score)}"
    return f"{trial.name}  {score}  run {trial.run_id}"


def interval_of(trial: Trial, search: Search) -> str:
    """Return what trials are compared by with its 95 % interval, or an empty text."""
    from imdbtune.report.findings import Z_95, error_of

    count = search.metrics.get("trials_finished", 0)
    chosen = f"best of {pluralize(int(count), 'trial')}, not confirmed with other seeds"
    rows, metric = search.validation_reviews, statistic_of(trial.objective)
    value = trial.metrics.get(f"best_val_{metric}")
    half_width = Z_95 * error_of(trial, metric, rows)
    if value is None or not math.isfinite(half_width):
        return ""
    if metric != "accuracy":
        name = f"val_{metric}"
        figures = f"{format_value(name, value)} ±{format_value(name, half_width)}"
        return f"{name} {figures} on {rows:,} reviews, {chosen}"
    folds = f" in {trial.folds} folds" if trial.folds else ""
    return (
        f"validation accuracy {value:.1%} ±{half_width * 100:.1f} points on {rows:,} reviews"
        f"{folds}, {chosen}"
    )
