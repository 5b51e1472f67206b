"""``imdbtune discard``."""

from __future__ import annotations

from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import UserError

HELP = """Mark a trial as not to be chosen.

It stays in compare, as discarded, and the search keeps what it has learned from it; best, confirm,
report, ensembles and the page in MLflow take the next one. The mark is the tag imdbtune.discarded
of its run, which can be set in MLflow as well.

Examples:

  imdbtune discard 0007 --reason "labels leaked"

  imdbtune discard 0007 --search rnn_types --undo
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(discard)


def discard(
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Number, name or run id of a trial.")
    ],
    search: Annotated[
        str,
        typer.Option(
            "--search",
            metavar="SEARCH",
            help="Name or run id of its search; by default the last search.",
        ),
    ] = "",
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for compare and MLflow.")
    ] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Remove the mark.")] = False,
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    if undo and reason:
        raise opt.mutually_exclusive("--undo", "--reason")
    from imdbtune import api

    found, marked = api.discard(trial, search or None, reason=reason, undo=undo, uri=tracking_uri)
    best = _best(found.run_id, tracking_uri)
    if as_json:
        facts = {"search_id": found.run_id, "run_id": marked.run_id, "best_run_id": best[1]}
        print_json({**facts, "discarded": marked.is_discarded})
        return
    done = "discarded" if marked.is_discarded else "not discarded any more"
    typer.echo(f"{marked.name} (run {marked.run_id}): {done}")
    if not quiet:
        typer.echo(f"best of search {found.name}: {best[0] or 'none'}")


def _best(search_id: str, uri: str) -> tuple[str, str]:
    """Return the name and the run id of the best trial of a search; empty if it has none."""
    from imdbtune import api

    try:
        _, trial = api.best(search_id, uri=uri)
    except UserError:
        return "", ""
    return trial.name, trial.run_id
