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

HELP = """Open MLflow's pages on the store of a search, until Ctrl-C.

They are served on this machine alone. Where the store is a server, its address is shown and opened.

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
        str, typer.Option("--port", metavar="N", help="Port; the next free one if it is in use.")
    ] = "5000",
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the browser, where there is a display.")
    ] = True,
    tracking_uri: opt.Uri = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """See HELP."""
    number = opt.whole_number("--port", port or "5000", 1, 65_535)
    from imdbtune import api
    from imdbtune.tracking.connection import hide_secrets

    with api.ui(search or None, port=number, uri=tracking_uri) as pages:
        shown = {"address": hide_secrets(pages.address), "search": hide_secrets(pages.page)}
        if as_json:
            print_json({**shown, "served": pages.process is not None})
        elif quiet:
            typer.echo(shown["search"] or shown["address"])
        else:
            for name, address in shown.items():
                typer.echo(f"{name}: {address or 'none yet'}")
            if pages.process is not None:
                typer.echo("Ctrl-C ends it.")
        sys.stdout.flush()
        if open_browser and has_display():
            webbrowser.open(pages.page or pages.address)
        with suppress(KeyboardInterrupt):
            pages.wait()


def has_display() -> bool:
    """Whether a browser window can be opened; one in the terminal would take it over."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
