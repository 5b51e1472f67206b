"""Trials as text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.errors import short_repr

if TYPE_CHECKING:  # every command imports this module, few of them read MLflow
    from imdbtune.confirm.results import Confirmation
    from imdbtune.tracking.reader import Baseline, Search, Trial

WHOLE = ("best_epoch", "epochs_run", "parameter_count")


def counted(number: int, noun: str) -> str:
    """``1 trial``, ``1,024 trials``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_words(seconds: float) -> str:
    """``40 s``, ``3 min``."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def columns(reading: Mapping[str, Any]) -> str:
    """Which columns of a table are read as what."""
    named = {kind: reading.get(f"{kind}_column", "") for kind in ("text", "label", "split")}
    named = {kind: name for kind, name in named.items() if name not in ("", "none")}
    return ", ".join(f"{kind} in column {short_repr(name)}" for kind, name in named.items())


def leaderboard(search: Search, trials: Sequence[Trial], varied: Sequence[str]) -> str:
    """The title of a search, and its trials: what was varied, the objective, epoch, seconds."""
    from imdbtune.tracking.reader import as_row

    columns = default_columns(varied, [f"best_{search.objective}"])
    return "\n".join([title(search), table([as_row(trial) for trial in trials], columns)])


def beside(search: Search, trials: Sequence[Trial], baselines: Sequence[Baseline]) -> str:
    """How the first trial of a search stands to its linear model; empty where there is none."""
    from imdbtune.report.findings import compare_with_baseline

    found = compare_with_baseline(baselines, trials, search.validation_reviews)
    return str(found) if found else ""


def title(search: Search) -> str:
    """One line about a search."""
    from imdbtune.tracking import writer

    data = search.tags.get(writer.DATA, "?")
    return f"search {search.name} ({search.run_id}) on {data}, {search.status.lower()}"


def default_columns(varied: Sequence[str], objectives: Sequence[str]) -> list[str]:
    """The columns that matter: they are headed by the names under which one can ask for them."""
    return ["name", *varied, *objectives, "best_epoch", "train_seconds", "status"]


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Aligned columns, numbers to the right; a finished trial has its place before it."""
    head = ["#", *columns]
    lines = [
        [str(n) if row.get("status") == "FINISHED" else "-", *(cell(row, c) for c in columns)]
        for n, row in enumerate(rows, start=1)
    ]
    right = [False, *(any(_is_number(row.get(c)) for row in rows) for c in columns)]
    return aligned([head, *lines], right)


def aligned(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Lines of cells below each other, a column to the right where ``right`` says so."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def cell(row: Mapping[str, Any], column: str) -> str:
    """A value as people read it; characters that steer terminals are escaped."""
    value = row.get(column)
    if value is None:
        return "-"
    if column == "status" and row.get("reason"):
        return _printable(f"{str(value).lower()}: {row['reason']}")
    if column == "status":
        return str(value).lower()
    if isinstance(value, float) and column not in PARAMETERS:
        if column in WHOLE:
            return f"{value:.0f}"
        return f"{value:.1f}" if column.endswith("seconds") else f"{value:.4f}"
    return _printable(value) if isinstance(value, str) else _cell(value)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def details(
    trial: Trial,
    search: Search | None = None,
    baselines: Sequence[Baseline] = (),
    confirmed: Confirmation | None = None,
) -> str:
    """One trial in full: parameters, the key numbers of its curves, how sure they are."""
    from imdbtune.confirm import results

    lines = [f"{trial.name}  (run {trial.run_id})"]
    if search is not None:
        lines.append(f"the best of search {search.name} (run {search.run_id})")
        sure = results.in_words(confirmed) if confirmed else how_sure(trial, search)
        told = (sure, beside(search, [trial], baselines))
        lines += [f"  {line}" for line in told if line]
    lines += [f"  {name:<20}{_cell(value)}" for name, value in trial.params.as_dict().items()]
    for name in (
        "best_val_accuracy",
        "best_val_loss",
        "best_accuracy",
        "best_loss",
        "best_epoch",
        "epochs_run",
        "train_seconds",
        "parameter_count",
        "test_accuracy",
        "test_loss",
    ):
        if name in trial.metrics:
            value = trial.metrics[name]
            whole = value.is_integer() or abs(value) > 100
            figure = f"{value:,.0f}" if whole else f"{value:.4f}"
            lines.append(f"  {name.replace('_', ' '):<20}{figure}")
    return "\n".join(lines)


def in_a_line(trial: Trial) -> str:
    """A trial's name, what it has reached, and its run."""
    score = "-" if trial.score is None else f"{trial.score:.4f}"
    return f"{trial.name}  {trial.objective} {score}  run {trial.run_id}"


def how_sure(trial: Trial, search: Search) -> str:
    """The validation accuracy with the 95 % interval of its sampling error."""
    from imdbtune.report.findings import SURE, standard_error

    accuracy = trial.metrics.get("best_val_accuracy")
    rows = search.validation_reviews
    half = SURE * standard_error(accuracy or 0.0, rows)
    if accuracy is None or not math.isfinite(half):
        return ""
    count = search.metrics.get("trials_finished", 0)
    return (
        f"validation accuracy {accuracy:.1%} ±{half * 100:.1f} points on {rows:,} reviews, "
        f"the best of {count:.0f}: not confirmed with other seeds"
    )
