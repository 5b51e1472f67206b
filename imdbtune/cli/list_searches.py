"""``imdbtune list``."""

from __future__ import annotations

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import align_columns

HELP = """List the searches of a tracking store, the newest first.

Examples:

  imdbtune list

  imdbtune list --tracking-uri http://127.0.0.1:5000 --json
"""
HEAD = ("name", "run id", "status", "trials", "best", "started")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("list", help=HELP)(list_searches)


def list_searches(
    tracking_uri: opt.Uri = "", as_json: opt.Json = False, quiet: opt.Quiet = False
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api

    found = api.list_searches(uri=tracking_uri)
    if as_json:
        print_json([summary.as_dict() for summary in found], indent=1)
        return
    rows = [
        (
            summary.search.name,
            summary.search.run_id,
            summary.search.status.lower(),
            str(summary.trials),
            "-" if summary.best is None else f"{summary.search.objective} {summary.best:.4f}",
            summary.started,
        )
        for summary in found
    ]
    if rows:
        right = [name == "trials" for name in HEAD]
        typer.echo(align_columns(rows if quiet else [HEAD, *rows], right))
    elif not quiet:
        typer.echo("no search yet; start one with imdbtune search")
