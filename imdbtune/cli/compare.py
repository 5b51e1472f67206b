"""``imdbtune compare``."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import UserError

if TYPE_CHECKING:
    from imdbtune.report.comparison import Comparison

HELP = """List the trials of one or several searches, the best first.

CONDITION names columns, with = != < <= > >= and in (a,b), joined by and, or and brackets. Columns
are those of --csv: the hyperparameters, best_val_accuracy, train_seconds, status and more.

Examples:

  imdbtune compare

  imdbtune compare --where "rnn=gru and maxlen>=200" --sort train_seconds:asc

  imdbtune compare --where "status=failed" --columns name,rnn,units,reason

  imdbtune compare rnn_types maxlen --csv > trials.csv
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(compare)


def compare(
    searches: Annotated[
        list[str] | None,
        typer.Argument(metavar="SEARCH", help="Names or run ids; default the last."),
    ] = None,
    where: Annotated[
        str, typer.Option("--where", metavar="CONDITION", help="Only trials that meet it.")
    ] = "",
    sort: Annotated[
        str,
        typer.Option("--sort", metavar="COLUMN[:asc|desc]", help="Order; default the best first."),
    ] = "",
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B", help="Which columns; default what matters.")
    ] = "",
    limit: Annotated[str, typer.Option("--limit", metavar="N", help="Trials at most.")] = "",
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    as_csv: opt.Csv = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    if as_json and as_csv:
        raise UserError("--json and --csv both came; give one of the two.")
    most = opt.whole_number("--limit", limit, 1, 1_000_000) if limit else 0
    names = [name.strip() for name in columns.split(",") if name.strip()]
    from imdbtune import api

    refs = [s for s in searches or [] if s]
    compared = api.compare(
        refs, where=where, sort=sort, columns=names, limit=most, uri=tracking_uri
    )
    if as_json:
        rows = [{name: row.get(name) for name in compared.columns} for row in compared.rows]
        print_json(rows, indent=1)
    elif as_csv:
        writer = csv.DictWriter(
            sys.stdout, compared.columns, restval="", extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(compared.rows)
    else:
        _tell(compared, bool(columns), quiet)


def _tell(compared: Comparison, chosen: bool, quiet: bool) -> None:
    """A line for each search, unless quiet, and one table of all trials."""
    from imdbtune.cli import tables

    for search, _ in [] if quiet else compared.searches:
        typer.echo(tables.title(search))
    names = ["search"] if len(compared.searches) > 1 else []
    columns = [*names, *tables.default_columns(compared.varied, compared.objectives)]
    typer.echo(tables.table(compared.rows, compared.columns if chosen else columns))
    for search, ranked in [] if quiet else compared.searches:
        found = tables.beside(search, ranked, compared.baselines.get(search.run_id, ()))
        if found:
            typer.echo(f"{search.name}: {found}" if names else found)
    trials = sum(len(trials) for _, trials in compared.searches)
    if len(compared.rows) < trials and not quiet:
        typer.echo(f"{len(compared.rows):,} of {trials:,} trials")
