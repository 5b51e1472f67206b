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

HELP = """Bring into MLflow what it lacks of a search.

That is so where the tracking store was away while it ran, or the search was killed: what has died
is closed as KILLED; searches can go on all the same.
SEARCH is a name or run id; without it, all searches of this folder are looked at. What MLflow has
already is not written again, so the command can be repeated.

Examples:

  imdbtune sync

  imdbtune sync rnn_types --tracking-uri http://127.0.0.1:5000
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(sync)


def sync(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="Name or run id.")] = "",
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    from imdbtune import api
    from imdbtune.cli.progress import make_progress

    with make_progress(as_json=as_json, quiet=quiet) as progress:
        done = api.sync(search or None, uri=tracking_uri, listener=progress)
    if as_json:
        print_json({"event": "finished", "searches": [asdict(one) for one in done]})
    for one in done:
        if not (one.problem or as_json):
            told = f"{one.calls} writes brought in" if one.calls else "nothing was missing"
            typer.echo(f"{_named(one)}: {told}")
    for one in done:
        if one.problem:
            typer.echo(f"imdbtune: {_named(one)}: {escape_control(one.problem)}", err=True)
    if any(one.problem for one in done):
        raise typer.Exit(1)


def _named(one: SyncResult) -> str:
    run = f" (run {one.run_id})" if one.run_id else ""
    return f"{one.kind} {escape_control(one.name)}{run}"
