"""``imdbtune sync``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import escape_control

if TYPE_CHECKING:
    from imdbtune.search.sync import SyncResult

HELP = """Deliver results to MLflow that it does not have yet.

Results are missing if the tracking store was unreachable while a search ran, or if the search was
killed. Runs of crashed processes are closed as KILLED; their searches can still be resumed. Nothing
is written twice, so the command can be repeated.

If the store itself has lost a search, as its files were deleted, --restore writes all of it anew.

Examples:

  imdbtune sync

  imdbtune sync rnn_types --tracking-uri http://127.0.0.1:5000

  imdbtune sync rnn_types --restore
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(sync)


def sync(
    search: Annotated[
        str,
        typer.Argument(
            metavar="SEARCH",
            help="Name or run id of a search; by default all searches of this folder.",
        ),
    ] = "",
    restore: Annotated[
        bool,
        typer.Option(
            "--restore",
            help="Write all of SEARCH again: the tracking store has lost it, or parts of it.",
        ),
    ] = False,
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    with make_progress(as_json=as_json, quiet=quiet) as progress:
        context = api.Context(uri=tracking_uri, listener=progress)
        results = api.sync(search or None, context, restore=restore)
    if as_json:
        print_json({"event": "finished", "searches": [asdict(one) for one in results]})
    for one in results:
        if not (one.problem or as_json):
            outcome = f"delivered {one.calls} writes" if one.calls else "nothing was missing"
            typer.echo(f"{_title(one)}: {outcome}")
    for one in results:
        if one.problem:
            typer.echo(f"imdbtune: {_title(one)}: {escape_control(one.problem)}", err=True)
    if any(one.problem for one in results):
        raise typer.Exit(1)


def _title(one: SyncResult) -> str:
    run = f" (run {one.run_id})" if one.run_id else ""
    return f"{one.kind} {escape_control(one.name)}{run}"
