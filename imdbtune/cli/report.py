"""``imdbtune report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json

HELP = """Write an HTML report of a search: result, figures, all trials.

The report also has the uncertainty of the result, the failed trials and how to reproduce the
search. It is one file that needs no network; it reads well on a phone and in print.

Examples:

  imdbtune report

  imdbtune report rnn_types --out rnn_types.html
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(report)


def report(
    search: opt.SearchName = "",
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="File to write.")
    ] = "report.html",
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api

    found = api.report(search or None, Path(out), uri=tracking_uri)
    if as_json:
        print_json({"search": found.name, "search_id": found.run_id, "report": out})
    elif quiet:
        typer.echo(out)
    else:
        typer.echo(f"wrote {out}: search {found.name} ({found.run_id})")
