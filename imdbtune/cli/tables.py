"""Trials as text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imdbtune.results import Search, Trial


def leaderboard(search: Search, trials: Sequence[Trial], varied: Sequence[str]) -> str:
    """Aligned columns: rank, name, what was varied, the objective, epochs, seconds, status."""
    head = ["#", "name", *varied, search.objective, "epoch", "seconds", "status"]
    rows = [head]
    for place, trial in enumerate(trials, start=1):
        done = trial.status == "FINISHED" and trial.score is not None
        score = f"{trial.score:.4f}" if trial.score is not None else "-"
        epoch = f"{trial.metrics['best_epoch']:.0f}" if "best_epoch" in trial.metrics else "-"
        seconds = trial.metrics.get("train_seconds")
        rows.append(
            [
                str(place) if done else "-",
                trial.name,
                *(_cell(getattr(trial.params, name)) for name in varied),
                score,
                epoch,
                "-" if seconds is None else f"{seconds:.0f}",
                trial.status.lower() + (f": {trial.reason}" if trial.reason else ""),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    data = search.tags.get("imdbtune.data", "?")
    title = f"search {search.name} ({search.run_id}) on {data}, {search.status.lower()}"
    return "\n".join([title, *(line.rstrip() for line in lines)])


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def details(trial: Trial, search: Search | None = None) -> str:
    """One trial in full: parameters, the key numbers of its curves, how sure they are."""
    lines = [f"{trial.name}  (run {trial.run_id})"]
    if search is not None:
        lines.append(f"the best of search {search.name} (run {search.run_id})")
        lines.append(f"  {how_sure(trial, search)}")
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
            shown = f"{value:,.0f}" if value == int(value) or value > 100 else f"{value:.4f}"
            lines.append(f"  {name.replace('_', ' '):<20}{shown}")
    return "\n".join(lines)


def how_sure(trial: Trial, search: Search) -> str:
    """The validation accuracy with the 95 % interval of its sampling error."""
    accuracy = trial.metrics.get("best_val_accuracy")
    rows = float(search.tags.get("imdbtune.validation_reviews", 0))
    if accuracy is None or not rows:
        return ""
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / rows)
    count = search.metrics.get("trials_finished", 0)
    return (
        f"validation accuracy {accuracy:.1%} ±{half * 100:.1f} points on {rows:,.0f} reviews, "
        f"the best of {count:.0f}: not confirmed with other seeds"
    )
