"""``imdbtune compare``."""

from __future__ import annotations

import csv
import json
import sys
from typing import Annotated, Any

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.tables import leaderboard
from imdbtune.errors import UserError

HELP = """List the trials of one or several searches, the best first.

Examples:

  imdbtune compare

  imdbtune compare rnn_types maxlen --csv > trials.csv
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(compare)


def compare(
    searches: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SEARCH]...", help="Names or run ids; default the last."),
    ] = None,
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
) -> None:
    """See HELP."""
    if as_json and as_csv:
        raise UserError("--json and --csv both came; give one of the two.")
    from imdbtune import api, results
    from imdbtune.params import PARAMETERS

    compared = api.compare([s for s in searches or [] if s], uri=tracking_uri)
    if as_json or as_csv:
        rows: list[dict[str, Any]] = [
            {"search": search.name, **results.as_row(trial)}
            for search, trials in compared
            for trial in trials
        ]
        if as_json:
            json.dump(rows, sys.stdout, indent=1)
            typer.echo()
        else:
            columns = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(sys.stdout, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return
    for search, trials in compared:
        varied = [name for name in PARAMETERS if len({getattr(t.params, name) for t in trials}) > 1]
        typer.echo(leaderboard(search, trials, varied))
