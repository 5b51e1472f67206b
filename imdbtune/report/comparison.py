"""Compare trials of one or several searches in one table: filter, sort and limit its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from imdbtune.config.filter_expression import parse_condition
from imdbtune.config.hyperparameters import PARAMETERS, names_of
from imdbtune.confirm import results
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.models.metrics.metric import best_names, find_metric
from imdbtune.report.against_linear import find_comparison
from imdbtune.report.findings import BaselineComparison
from imdbtune.search.borrowed import BorrowedRow, read_borrowed
from imdbtune.tracking import mlflow_names, notebook_html, reader
from imdbtune.tracking.entities import ENDED_WELL, Search, Trial
from imdbtune.tracking.ranking import as_rows, outcome_columns

if TYPE_CHECKING:
    import pandas as pd

    from imdbtune.confirm.entities import Confirmation
    from imdbtune.tracking.sqlite_reader import Runs

ROWS_IN_NOTEBOOK = 20
Row = dict[str, Any]
# Columns that exist even without any trial, in this order.
LEADING_COLUMNS = ("search", "trial", "name", "status", *PARAMETERS)
TRAILING_COLUMNS = ("started", "reason", "run_id")
METRIC_COLUMNS = (
    *best_names(),
    "best_epoch",
    "epochs_run",
    "train_seconds",
    "parameter_count",
)


@dataclass(frozen=True)
class Comparison:
    """Searches with their trials, and the selected rows."""

    searches: list[tuple[Search, list[Trial]]]
    rows: list[Row]
    columns: list[str]  # names, in order
    # By run id of the search.
    linear: Mapping[str, BaselineComparison] = field(default_factory=dict)
    confirmed: Mapping[str, Confirmation] = field(default_factory=dict)
    borrowed: Mapping[str, Sequence[BorrowedRow]] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a pandas data frame, one row for each trial."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the best rows, each name a link to its run in MLflow."""
        searches = ["search"] if len(self.searches) > 1 else []
        shown = [*searches, *self.varied, *self.objectives, "train_seconds", "status"]
        shown = list(dict.fromkeys(shown))
        rows = [
            (
                place,
                notebook_html.run_link(str(row["run_id"]), str(row["name"])),
                *(row.get(column) for column in shown),
            )
            for place, row in enumerate(self.rows[:ROWS_IN_NOTEBOOK], start=1)
        ]
        names = ", ".join(notebook_html.bold(search.name) for search, _ in self.searches)
        more = len(self.rows) - len(rows)
        note = f"... and {more} more: .frame has all rows and columns." if more else ""
        title = notebook_html.Html(f"trials of {names}")
        return notebook_html.table(title, ("#", "trial", *shown), rows, note)

    @property
    def varied(self) -> list[str]:
        """Hyperparameters in which the rows differ."""
        names = names_of(trial.params for _, trials in self.searches for trial in trials)
        return [name for name in names if len({row.get(name) for row in self.rows}) > 1]

    @property
    def objectives(self) -> list[str]:
        """Columns with the objectives of the searches, and with the front if there is one."""
        searches = [search for search, _ in self.searches]
        return list(dict.fromkeys(column for each in searches for column in outcome_columns(each)))


def read_comparison(
    runs: Runs,
    search_refs: Iterable[str],
    where: str = "",
    sort: str = "",
    columns: Sequence[str] = (),
    limit: int = 0,
) -> Comparison:
    """Read searches by name or run id, and compare them as :func:`compare_searches` does.

    Raises:
        UserError: no such search, or an invalid condition, column or order.
    """
    searches = reader.find_searches(runs, search_refs)
    trials = [(search, reader.read_trials(runs, search)) for search in searches]
    confirmed, linear = {}, {}
    for search, ranked in trials:
        if found := results.read(runs, search):
            confirmed[search.run_id] = found
        done, baselines = [t for t in ranked if t.can_win], reader.read_baselines(runs, search)
        if compared := find_comparison(runs, search, done, baselines, found):
            linear[search.run_id] = compared
    return replace(
        compare_searches(trials, where, sort, columns, limit),
        linear=linear,
        confirmed=confirmed,
        borrowed={search.run_id: read_borrowed(runs, search) for search in searches},
    )


def compare_searches(
    searches: Sequence[tuple[Search, list[Trial]]],
    where: str = "",
    sort: str = "",
    columns: Sequence[str] = (),
    limit: int = 0,
) -> Comparison:
    """Return the trials that meet ``where``, in the order of ``sort``, at most ``limit`` of them.

    Without ``sort`` the best come first: in one ranking if the searches have the same objective,
    otherwise search by search.

    Raises:
        UserError: an invalid condition, column or order.
    """
    rows = [{"search": s.name, **row} for s, trials in searches for row in as_rows(s, trials)]
    known = all_columns(rows)
    for column in columns:
        if column not in known:
            raise unknown_choice("column", column, known)
    if where:
        condition = parse_condition(where, rows, known)
        rows = [row for row in rows if condition(row)]
    objectives = {search.objective for search, _ in searches}
    if sort:
        rows = sort_rows(rows, sort, known)
    elif len(searches) > 1 and len(objectives) == 1:
        ended = [row for row in rows if row["status"] in ENDED_WELL]
        others = [row for row in rows if row["status"] not in ENDED_WELL]
        direction = "desc" if searches[0][0].larger_is_better else "asc"
        rows = sort_rows(ended, f"best_{objectives.pop()}:{direction}", known) + others
    return Comparison(list(searches), rows[: limit or None], list(columns) or known)


def all_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every column that rows have or may have: names, hyperparameters, metrics, others."""
    found = dict.fromkeys(name for row in rows for name in row)
    metrics = [
        name for name in found if name not in (*LEADING_COLUMNS, *METRIC_COLUMNS, *TRAILING_COLUMNS)
    ]
    return [*LEADING_COLUMNS, *METRIC_COLUMNS, *metrics, *TRAILING_COLUMNS]


def sort_rows(rows: Sequence[Row], order: str, columns: Collection[str]) -> list[Row]:
    """Return the rows in the order ``COLUMN[:asc|desc],...``; rows without a value come last.

    Without a direction, metrics whose larger values are better are in descending order, all else
    in ascending order.

    Raises:
        UserError: an unknown column or direction.
    """
    result = list(rows)
    for key in reversed(order.split(",")):
        column, colon, direction = key.strip().partition(":")
        if column not in columns:
            raise unknown_choice("column", column, columns)
        if direction not in (("asc", "desc") if colon else ("",)):
            raise UserError(
                f"the order {short_repr(key.strip())} is not known; give COLUMN, "
                "COLUMN:asc or COLUMN:desc."
            )
        metric = None if direction else find_metric(column)
        descending = metric.larger_is_better if metric else direction == "desc"
        present = [row for row in result if row.get(column) is not None]
        present.sort(key=lambda row: row[column], reverse=descending)
        result = present + [row for row in result if row.get(column) is None]
    return result


def check_comparable(searches: Sequence[Search]) -> None:
    """Raise UserError unless all searches validate on the same reviews of the same data."""
    for search in searches[1:]:
        if _reviews(search) != _reviews(searches[0]):
            raise UserError(
                f"searches {_about(searches[0])} and {_about(search)} have other reviews, so that "
                "their accuracies cannot be compared."
            )


def _reviews(search: Search) -> tuple[str, str, int]:
    tags = search.tags
    digest, reviews = tags.get(mlflow_names.DIGEST, ""), tags.get("imdbtune.reviews", "0")
    return digest, reviews, search.validation_reviews


def _about(search: Search) -> str:
    digest, reviews, validation = _reviews(search)
    first = "" if reviews == "0" else f", first {reviews}"
    return f"{short_repr(search.name)} (data {digest[:12]}{first}, {validation} for validation)"
