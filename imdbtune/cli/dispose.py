"""``imdbtune delete`` and ``imdbtune rename``."""

from __future__ import annotations

from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import pluralize

DELETE_HELP = """Move a search to MLflow's bin, or restore it from there.

Its trials, its baselines and its confirmation go with it. --undo restores what was deleted
together, until mlflow gc deletes it for good. Registered, refitted and averaged models stay, and so
does the folder of the search. A search that is running is refused.

Examples:

  imdbtune delete rnn_types

  imdbtune delete rnn_types --undo
"""
RENAME_HELP = """Give a search another name.

Its run, its trials and its confirmation have the new name in MLflow; run ids stay. A search that is
running is refused.

Examples:

  imdbtune rename search released
"""
Search = Annotated[
    str, typer.Argument(metavar="SEARCH", help="Name or run id of a search.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(help=DELETE_HELP)(delete)
    app.command(help=RENAME_HELP)(rename)


def delete(
    search: Search,
    undo: Annotated[bool, typer.Option("--undo", help="Restore it from the bin.")] = False,
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``DELETE_HELP`` is its help text."""
    from imdbtune import api

    context = api.Context(uri=tracking_uri)
    done = (api.undelete if undo else api.delete)(search, context)
    found, runs = done.search, pluralize(done.runs, "run")
    if as_json:
        print_json({"search_id": found.run_id, "name": found.name, "runs": done.runs, "undo": undo})
        return
    where = "restored from MLflow's bin" if undo else "moved to MLflow's bin"
    typer.echo(f"search {found.name} (run {found.run_id}): {runs} {where}")
    if not (undo or quiet):
        typer.echo(f"restore it with: imdbtune delete {found.run_id} --undo")


def rename(
    search: Search,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.", show_default=False)],
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
) -> None:
    """Run the command; ``RENAME_HELP`` is its help text."""
    from imdbtune import api

    found = api.rename(search, name, api.Context(uri=tracking_uri))
    if as_json:
        print_json({"search_id": found.run_id, "name": found.name})
        return
    typer.echo(f"search {found.run_id} is now called {found.name}")
