"""What a confirmation has found, as frozen dataclasses: in MLflow as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imdbtune.confirm.rule import DEFAULT_RULE, Rule
from imdbtune.errors import escape_control
from imdbtune.tracking import notebook_html


@dataclass(frozen=True)
class Confirmed:
    """One configuration after its trainings: a row of the table."""

    name: str
    trial_run_id: str  # of the search
    run_ids: tuple[str, ...]  # of the trainings, the best one first
    mean: float
    spread: float  # standard deviation between seeds
    half_seeds: float  # half width of the 95 % interval for other seeds; NaN: too few seeds
    half_reviews: float  # the same for other reviews
    half_width: float  # the same for other seeds and other reviews
    seconds: float  # of one training
    parameter_count: float
    difference: float  # mean of the first row minus this mean
    p: float  # corrected p value of the difference; 1 in the first row
    alike: bool  # whether it is not significantly worse than the first
    searched: float  # the metric in the search
    test_mean: float = math.nan
    test_spread: float = math.nan


@dataclass(frozen=True)
class Confirmation:
    """The configurations by their mean accuracy, or another metric, and the recommended one."""

    search_id: str
    run_id: str
    reviews: int
    seeds: int  # of the configuration with the fewest
    rows: tuple[Confirmed, ...]
    recommended: str  # trial_run_id of a row
    rule: Rule = DEFAULT_RULE
    is_shown: bool = True  # that the recommended one is at most the margin worse than any other
    undecided: tuple[str, ...] = ()  # trial_run_ids of rows that need more seeds; empty: settled
    more_seeds: int = 0  # of each undecided row, estimated; 0: unknown, or no number is enough
    metric: str = "accuracy"  # whose means are compared
    newer: int = 0  # trials of the search that rank above a confirmed one, and were not confirmed

    @property
    def winner(self) -> Confirmed:
        """The recommended row: the cheapest of those shown to be as good as any, or the first."""
        return next(row for row in self.rows if row.trial_run_id == self.recommended)

    @property
    def alike(self) -> int:
        """Number of rows not significantly worse than the first, including the first."""
        return sum(row.alike for row in self.rows)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table, the recommendation, and links to MLflow."""
        columns = ("#", "configuration", "seeds", "mean", "std", "± 95 %", "difference", "p", "s")
        rows: list[tuple[notebook_html.Cell, ...]] = [
            (
                f"{place}{'*' if row is self.winner else ''}",
                notebook_html.run_link(row.trial_run_id, row.name),
                len(row.run_ids),
                *(f"{value:.4f}" for value in (row.mean, row.spread, row.half_width)),
                f"{row.difference:.4f}",
                f"{row.p:.3f}",
                f"{row.seconds:.0f}",
            )
            for place, row in enumerate(self.rows, start=1)
        ]
        name, run = notebook_html.bold(self.winner.name), notebook_html.run_link(self.run_id)
        title = notebook_html.Html(f"recommended: {name} (* in the table); confirmation {run.text}")
        note = f"Means over seeds, on {self.reviews:,} validation reviews."
        return notebook_html.table(title, columns, rows, note)

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON, with ``None`` for NaN and infinity."""
        plain = dataclasses.asdict(self)
        for row in plain["rows"]:
            for key, value in row.items():
                if isinstance(value, float) and not math.isfinite(value):
                    row[key] = None
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Confirmation:
        """Return the confirmation from the output of :meth:`as_dict`.

        Raises:
            TypeError, ValueError, KeyError: invalid input.
        """
        fields = {f.name: f for f in dataclasses.fields(Confirmed)}
        rows = []
        for values in plain["rows"]:
            halves = [values[name] or math.nan for name in ("half_seeds", "half_reviews")]
            values.setdefault("half_width", math.hypot(*halves))  # older files do not have it
            row = {name: values[name] for name in fields}
            for name, each in fields.items():
                if each.type == "float":
                    row[name] = math.nan if row[name] is None else float(row[name])
                elif each.type == "str":
                    row[name] = escape_control(str(row[name]))
            row["run_ids"] = tuple(str(run_id) for run_id in row["run_ids"])
            rows.append(Confirmed(**row))
        confirmation = cls(
            search_id=str(plain["search_id"]),
            run_id=str(plain["run_id"]),
            reviews=int(plain["reviews"]),
            seeds=int(plain["seeds"]),
            rows=tuple(rows),
            recommended=str(plain["recommended"]),
            **cls._newer_fields(plain),
        )
        recommended = confirmation.recommended
        if not any(row.trial_run_id == recommended and row.run_ids for row in rows):
            raise ValueError("the recommended configuration has no row")
        return confirmation

    @staticmethod
    def _newer_fields(plain: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that older files do not have."""
        if "rule" not in plain:
            return {}
        rule = plain["rule"]
        return {
            "metric": escape_control(str(plain.get("metric", "accuracy"))),
            "rule": Rule(float(rule["margin"]), float(rule["level"])),
            "is_shown": bool(plain["is_shown"]),
            "undecided": tuple(str(run_id) for run_id in plain["undecided"]),
            "more_seeds": int(plain["more_seeds"]),
        }
