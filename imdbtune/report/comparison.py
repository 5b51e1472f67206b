"""Trials of one or several searches as one table: filtered, sorted, cut to what is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.report.filter_expression import parse_condition
from imdbtune.tracking.reader import Baseline, Search, Trial, as_row

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
# Known also where no trial has come so far, and in this order.
FIRST = ("search", "trial", "name", "status", *PARAMETERS)
LAST = ("started", "reason", "run_id")
FIGURES = (
    "best_val_accuracy",
    "best_val_loss",
    "best_accuracy",
    "best_loss",
    "best_epoch",
    "epochs_run",
    "train_seconds",
    "parameter_count",
)


@dataclass(frozen=True)
class Comparison:
    """Searches with their trials, and the rows that are left of them."""

    searches: list[tuple[Search, list[Trial]]]
    rows: list[Row]
    columns: list[str]  # of the rows, in order
    baselines: Mapping[str, Sequence[Baseline]] = field(default_factory=dict)  # by a search's run

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a pandas data frame, one row for each trial."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns)

    @property
    def varied(self) -> list[str]:
        """The hyperparameters in which the rows differ."""
        return [p for p in PARAMETERS if len({row.get(p) for row in self.rows}) > 1]

    @property
    def objectives(self) -> list[str]:
        """What the searches optimise, as the columns that hold it."""
        return list(dict.fromkeys(f"best_{search.objective}" for search, _ in self.searches))


def compare_searches(
    searches: Sequence[tuple[Search, list[Trial]]],
    where: str = "",
    sort: str = "",
    columns: Sequence[str] = (),
    limit: int = 0,
) -> Comparison:
    """The trials as rows that meet ``where``, in the order of ``sort``, at most ``limit`` of them.

    Without ``sort`` the best come first: by the objective if the searches have one in common,
    else search by search.

    Raises:
        UserError: a condition, a column or an order that cannot be read.
    """
    rows = [{"search": s.name, **as_row(trial)} for s, trials in searches for trial in trials]
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
        done = [row["status"] == "FINISHED" for row in rows]
        ranked = [row for row, finished in zip(rows, done, strict=True) if finished]
        others = [row for row, finished in zip(rows, done, strict=True) if not finished]
        rows = sort_rows(ranked, f"best_{objectives.pop()}", known) + others
    return Comparison(list(searches), rows[: limit or None], list(columns) or known)


def all_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every column that the rows have, or may have: names, parameters, metrics, the rest."""
    found = dict.fromkeys(name for row in rows for name in row)
    metrics = [name for name in found if name not in (*FIRST, *FIGURES, *LAST)]
    return [*FIRST, *FIGURES, *metrics, *LAST]


def sort_rows(rows: Sequence[Row], order: str, columns: Collection[str]) -> list[Row]:
    """The rows in the order ``COLUMN[:asc|desc],...``; those without a value come last.

    Without a direction it is the best first: accuracies fall, everything else rises.

    Raises:
        UserError: an unknown column, or a direction that is none.
    """
    result = list(rows)
    for key in reversed(order.split(",")):
        column, colon, direction = key.strip().partition(":")
        if column not in columns:
            raise unknown_choice("column", column, columns)
        if direction not in (("asc", "desc") if colon else ("",)):
            raise UserError(
                f"order {short_repr(key.strip())} is not known; write COLUMN, "
                "COLUMN:asc or COLUMN:desc."
            )
        falls = direction == "desc" or (not direction and "accuracy" in column)
        there = [row for row in result if row.get(column) is not None]
        there.sort(key=lambda row: row[column], reverse=falls)
        result = there + [row for row in result if row.get(column) is None]
    return result
