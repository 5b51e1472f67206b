"""What a confirmation found, in words: for the terminal, the report and MLflow's pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imdbtune.tracking import mlflow_links

if TYPE_CHECKING:
    from imdbtune.confirm.entities import Confirmation, Confirmed


def method(confirmation: Confirmation) -> str:
    """Return how the configurations are compared."""
    is_accuracy = confirmation.metric == "accuracy"
    means = "accuracies" if is_accuracy else f"values of {confirmation.metric}"
    reviews = "" if is_accuracy else " by the bootstrap"
    return (
        f"Tukey's studentised range (Games and Howell 1976) of the mean {means}, with the "
        f"variance of each difference over seeds and over the shared validation reviews{reviews}, "
        f"at {confirmation.rule.level * 100:g} % over all comparisons"
    )


def markdown(rows: Sequence[Confirmed], confirmation: Confirmation) -> str:
    """Return the table for MLflow's description of the run."""
    winner = mlflow_links.as_text(confirmation.winner.name)
    lines = [
        f"**Recommended: {winner}, {describe(confirmation)}.**",
        "",
        "| # | configuration | mean | std | 95 % | difference | p | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for rank, row in enumerate(rows, start=1):
        cells = [
            mlflow_links.as_text(row.name),
            f"{row.mean:.4f}",
            f"{row.spread:.4f}",
            f"± {row.half_width:.4f}",
        ]
        cells += [f"{row.difference:.4f}", f"{row.p:.3f}", f"{row.seconds:.0f}"]
        lines.append(f"| {rank} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Significance test: {method(confirmation)}."])


def describe_winner(confirmation: Confirmation) -> str:
    """Return the recommended configuration with its accuracy and its certainty, in a line."""
    return f"recommended: {confirmation.winner.name}, {describe(confirmation)}"


def describe(confirmation: Confirmation) -> str:
    """Return the accuracy of the recommended configuration and its certainty, in a line."""
    row, seeds = confirmation.winner, len(confirmation.winner.run_ids)
    if confirmation.metric == "accuracy":
        text = f"validation accuracy {row.mean * 100:.1f} %"
        error = f" ±{row.half_width * 100:.1f} points"
    else:
        text, error = f"val_{confirmation.metric} {row.mean:.4f}", f" ±{row.half_width:.4f}"
    if not math.isnan(row.half_width):
        text += error
    text += f", the mean of {seeds} seed{'' if seeds == 1 else 's'}"
    if math.isnan(row.half_width):
        text += " (too few for an interval)"
    text += f"; {_reason(confirmation)}"
    if confirmation.newer:
        ranks = (
            "1 newer trial ranks"
            if confirmation.newer == 1
            else (f"{confirmation.newer} newer trials rank")
        )
        text += f"; {ranks} above a confirmed one: run imdbtune confirm again"
    return text


def _reason(confirmation: Confirmation) -> str:
    """Return why the recommended configuration is recommended."""
    count = len(confirmation.rows)
    is_accuracy, limit = confirmation.metric == "accuracy", confirmation.rule.margin
    margin = f"{limit * 100:g} points" if is_accuracy else f"{limit:g}"
    if count == 1:
        return "no other configuration was confirmed"
    if confirmation.winner is not confirmation.rows[0]:
        return f"the cheapest of {count} that is shown to be at most {margin} worse than any other"
    if confirmation.alike == 1:
        others = "the other one" if count == 2 else f"the other {count - 1}"
        return f"significantly better than {others} confirmed"
    if confirmation.is_shown:
        return f"the best mean of {count}, and shown to be at most {margin} worse than any other"
    text = f"the best mean of {count}, {confirmation.alike - 1} of which may be as good"
    if confirmation.more_seeds:
        seeds = "seed" if confirmation.more_seeds == 1 else "seeds"
        text += f"; about {confirmation.more_seeds} more {seeds} of each would decide"
    return text
