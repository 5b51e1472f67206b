"""``imdbtune best``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.tables import details

HELP = """Show the winner of a search, and take it out of MLflow.

With --export the winner is evaluated on the test reviews, once; a search never touches them.

Examples:

  imdbtune best

  imdbtune best --search rnn_types --export winner

  imdbtune best --export winner --no-test --overwrite
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(best)


def best(
    search: Annotated[
        str, typer.Option("--search", metavar="NAME|ID", help="Which search; default the last.")
    ] = "",
    export: Annotated[
        str, typer.Option("--export", metavar="DIR", help="Write the model and all it needs.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in DIR.")
    ] = False,
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="With --export: evaluate on the test reviews.")
    ] = True,
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
) -> None:
    """See HELP."""
    from imdbtune import api, results
    from imdbtune.cli.chatter import chatter_to_log
    from imdbtune.export.folder import check_target

    found, trial = api.best(search or None, uri=tracking_uri)
    facts: dict[str, Any] = {"search": found.name, "search_id": found.run_id}
    if export:
        check_target(Path(export), overwrite)
    if not as_json:
        typer.echo(details(trial, found))
    uri, kept = tracking_uri, opt.optional_path(cache)
    if export:
        metrics: dict[str, float] = {}
        with chatter_to_log() as err:
            if test:
                if "test_accuracy" not in trial.metrics:
                    err.write("evaluating on the test reviews ...\n")
                metrics = api.evaluate(trial, uri=uri, cache=kept)
            folder = api.export(
                trial, Path(export), uri=uri, cache=kept, overwrite=overwrite, extra=metrics
            )
        facts |= {"export": str(folder), **metrics}
        if not as_json:
            _tell_export(folder, metrics)
    if as_json:
        json.dump({**facts, **results.as_row(trial), **facts}, sys.stdout)
        typer.echo()


def _tell_export(folder: Path, metrics: dict[str, float]) -> None:
    if metrics:
        typer.echo(f"  test accuracy       {metrics['test_accuracy']:.4f}")
        typer.echo(f"  test loss           {metrics['test_loss']:.4f}")
    typer.echo(f"exported to {folder}: model.keras, vocabulary.json, metadata.json, README.md")
    typer.echo(f'next: imdbtune predict --model {folder} "a wonderful film"')
