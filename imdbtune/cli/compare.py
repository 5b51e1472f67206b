"""``imdbtune compare``."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import guard
from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import pluralize
from imdbtune.errors import UserError, short_repr

if TYPE_CHECKING:
    from imdbtune.report.comparison import Comparison

HELP = """List the trials of one or several searches, the best first.

CONDITION compares columns with values by = != < <= > >= and in (a,b); combine comparisons with
and, or and parentheses. The columns are those of --csv: hyperparameters, best_val_accuracy,
train_seconds, status and more.

--confirmed compares the winners of two confirmed searches instead, OLD NEW: with the 95 % interval
of the difference of their accuracies, over seeds and reviews. The exit code is 1 if the new one is
significantly worse.

Examples:

  imdbtune compare

  imdbtune compare --where "rnn=gru and maxlen>=200" --sort train_seconds:asc

  imdbtune compare --where "status=failed" --columns name,rnn,units,reason

  imdbtune compare rnn_types maxlen --csv > trials.csv

  imdbtune compare released candidate --confirmed --junit regression.xml
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(compare)


def compare(
    searches: opt.SearchNames = None,
    where: Annotated[
        str,
        typer.Option(
            "--where", metavar="CONDITION", help="List only the trials that meet the condition."
        ),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="COLUMN[:asc|desc]",
            help="Sort by a column; by default by the objective, the best first.",
        ),
    ] = "",
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="A,B",
            help="Columns to show; by default the varied hyperparameters and the main metrics.",
        ),
    ] = "",
    limit: Annotated[
        str, typer.Option("--limit", metavar="N", help="List at most N trials; by default all.")
    ] = "",
    require_match: Annotated[
        bool,
        typer.Option("--require-match", help="Exit with code 1 if no trial meets the condition."),
    ] = False,
    confirmed: Annotated[
        bool,
        typer.Option(
            "--confirmed",
            help="Compare the confirmed winners of two searches, OLD NEW; exit with code 1 if the "
            "new one is significantly worse.",
        ),
    ] = False,
    junit: guard.Junit = "",
    github_summary: guard.GithubSummary = False,
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    as_csv: opt.Csv = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    if as_json and as_csv:
        raise opt.mutually_exclusive("--json", "--csv")
    if require_match and not where:
        raise UserError("--require-match needs --where CONDITION; add it or omit --require-match.")
    refs = [s for s in searches or [] if s]
    files = guard.ci_files(junit, github_summary)
    if confirmed:
        lists = {"--where": where, "--sort": sort, "--columns": columns, "--limit": limit}
        for flag in (flag for flag, value in {**lists, "--csv": as_csv}.items() if value):
            raise opt.mutually_exclusive("--confirmed", flag)
        _compare_confirmed(refs, files, tracking_uri, as_json, quiet)
        return
    if files:
        raise UserError(
            "--junit and --github-summary need --confirmed; add it, or give them to imdbtune "
            "search or imdbtune best."
        )
    max_rows = opt.parse_int("--limit", limit, 1, 1_000_000) if limit else 0
    names = [name.strip() for name in columns.split(",") if name.strip()]
    from imdbtune import api

    compared = api.compare(
        refs, where=where, sort=sort, columns=names, limit=max_rows, uri=tracking_uri
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
    elif compared.rows or not where:
        _print_tables(compared, bool(columns), quiet)
    else:
        trials = sum(len(trials) for _, trials in compared.searches)
        typer.echo(f"none of {pluralize(trials, 'trial')} meets the condition {short_repr(where)}")
    if require_match and not compared.rows:
        raise typer.Exit(1)


def _compare_confirmed(
    refs: list[str], files: guard.CiFiles, uri: str, as_json: bool, quiet: bool
) -> None:
    """Print how the confirmed winners of two searches differ, and write the files of a CI system.

    Raises:
        UserError: not two searches, or they cannot be compared.
        typer.Exit: the new one is significantly worse.
    """
    if len(refs) != 2:
        raise UserError(f"--confirmed compares two searches, OLD NEW; you gave {len(refs)}.")
    from imdbtune import api
    from imdbtune.report.ci import change_suite

    found = api.compare_confirmed(*refs, uri=uri)
    files.write(change_suite(found))
    if as_json:
        print_json(found.as_dict())
    else:
        for winner in () if quiet else (found.old, found.new):
            seeds = pluralize(len(winner.accuracies), "seed")
            typer.echo(f"{winner.search.name}: {winner.row.name}  {winner.mean:.4f}, {seeds}")
        typer.echo(str(found))
    if found.is_worse:
        raise typer.Exit(1)


def _print_tables(compared: Comparison, has_columns: bool, quiet: bool) -> None:
    """Print the table of all trials; unless quiet, also the searches and their baselines."""
    from imdbtune.cli import tables
    from imdbtune.confirm.description import describe

    for search, _ in [] if quiet else compared.searches:
        typer.echo(tables.search_title(search))
    names = ["search"] if len(compared.searches) > 1 else []
    columns = [*names, *tables.default_columns(compared.varied, compared.objectives)]
    typer.echo(tables.table(compared.rows, compared.columns if has_columns else columns))
    for search, ranked in [] if quiet else compared.searches:
        prefix = f"{search.name}: " if names else ""
        confirmed = compared.confirmed.get(search.run_id)
        if confirmed is not None:
            typer.echo(f"{prefix}best: {confirmed.winner.name}, {describe(confirmed)}")
        elif sentence := tables.front_sentence(search, ranked):
            typer.echo(f"{prefix}{sentence}")
        borrowed = compared.borrowed.get(search.run_id, ())
        if sentence := tables.borrowed_sentence(search, ranked, borrowed):
            typer.echo(f"{prefix}{sentence}")
        if found := compared.linear.get(search.run_id):
            typer.echo(f"{prefix}{found}")
    trials = sum(len(trials) for _, trials in compared.searches)
    if len(compared.rows) < trials and not quiet:
        typer.echo(f"{len(compared.rows):,} of {trials:,} trials")
