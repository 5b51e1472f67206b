"""``imdbtune ui``."""

from __future__ import annotations

import os
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json

HELP = """Open MLflow's web interface on a search, until Ctrl-C.

It is reachable from this machine only. If the tracking store is a server, its own interface is
opened.

Examples:

  imdbtune ui

  imdbtune ui rnn_types --port 5050 --no-open
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(ui)


def ui(
    search: opt.SearchName = "",
    port: Annotated[
        str, typer.Option("--port", metavar="N", help="Port; if it is in use, the next free port.")
    ] = "5000",
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open a browser if there is a display.")
    ] = True,
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    number = opt.parse_int("--port", port or "5000", 1, 65_535)
    from imdbtune import api
    from imdbtune.tracking.connection import hide_secrets

    with api.ui(search or None, port=number, uri=tracking_uri) as server:
        addresses = {"address": hide_secrets(server.address), "search": hide_secrets(server.page)}
        if as_json:
            print_json({**addresses, "served": server.process is not None})
        elif quiet:
            typer.echo(addresses["search"] or addresses["address"])
        else:
            for name, address in addresses.items():
                typer.echo(f"{name}: {address or 'none yet'}")
            if server.process is not None:
                typer.echo("Press Ctrl-C to stop.")
        sys.stdout.flush()
        if open_browser and has_display():
            webbrowser.open(server.page or server.address)
        with suppress(KeyboardInterrupt):
            server.wait()


def has_display() -> bool:
    """Return whether a browser window can open; a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
