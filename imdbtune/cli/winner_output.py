"""What ``imdbtune best`` prints of the models that it trains, exports and registers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imdbtune.cli.tables import trial_line
from imdbtune.errors import escape_control
from imdbtune.models.metrics.metric import format_value

if TYPE_CHECKING:
    from imdbtune.tracking.entities import Search, Trial
    from imdbtune.tracking.model_registry import Version


def describe_refit(trial: Trial) -> str:
    """Return the run of a training on all reviews, which has no validation accuracy."""
    epochs, seconds = (trial.metrics.get(n, 0) for n in ("epochs_run", "train_seconds"))
    return (
        f"{trial.name}  (run {trial.run_id})\n"
        f"  trained on all training reviews for {epochs:.0f} epochs in {seconds:.0f} s"
    )


def describe_ensemble(
    trial: Trial, search: Search, members: Sequence[Trial], linear: float | None
) -> str:
    """Return the members of an ensemble, and its gain over the best of them.

    Args:
        trial: the ensemble.
        search: the search of the members.
        members: the trials that it averages.
        linear: the linear model's score, if that is a member too.
    """
    from imdbtune.models.mix_weights import from_metrics

    weights = from_metrics(trial.metrics)
    kind = "mix" if weights else "average"
    lines = [f"{trial.name}  (run {trial.run_id})"]
    lines.append(f"{kind} of models of search {search.name} (run {search.run_id}):")
    lines += [f"  {trial_line(member)}" for member in members]
    scores = [member.score for member in members if member.score is not None]
    if scores and linear is not None:  # refitted members have no validation accuracy
        lines.append(f"  the linear model  {trial.objective} {linear:.4f}")
        scores.append(linear)
    if trial.score is not None and scores:
        how = ", by weights fitted to other reviews" if weights else ""
        best = "network" if weights and linear is None else "member"
        gain = _gain(trial.score, scores, trial.objective, search)
        lines.append(f"  {trial.objective} {trial.score:.4f}{how}: {gain} its best {best}")
    if weights:
        networks, of_linear = weights
        lines.append(f"  weights: networks {networks:.2f}, linear model {of_linear:.2f}")
    return "\n".join(lines)


def _gain(score: float, scores: Sequence[float], objective: str, search: Search) -> str:
    """Return in words how much better a score is than the best of others."""
    is_maximised = search.is_maximised(objective)
    gain = score - max(scores) if is_maximised else min(scores) - score
    if objective == "val_accuracy":
        return f"{abs(gain) * 100:.2f} points {'above' if gain >= 0 else 'below'}"
    return f"{'better' if gain >= 0 else 'worse'} by {abs(gain):.4f} than"


def print_export(folder: Path, metrics: dict[str, float], differences: dict[str, float]) -> None:
    """Print the test metrics, the difference of each format from Keras, and what to do next."""
    for name, value in metrics.items():
        typer.echo(f"  {name.replace('_', ' '):<20}{format_value(name, value)}")
    for name, difference in differences.items():
        typer.echo(f"  {name:<20}verified; differs from Keras by at most {difference:.1e}")
    path = escape_control(str(folder))
    typer.echo(f"exported to {path}; README.md there describes how to use it")
    typer.echo(f'next: imdbtune predict --model {path} "a wonderful film"')


def print_version(version: Version) -> None:
    """Print the name of a registered model, and how to serve it."""
    typer.echo(f"registered as version {version.number} of {version.name}, now its champion")
    typer.echo(f"next: mlflow models serve -m {version.uri} --env-manager local --port 5001")
