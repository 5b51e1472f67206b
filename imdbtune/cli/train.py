"""``imdbtune train``."""

from __future__ import annotations

from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.command import GroupedCommand
from imdbtune.cli.config_file import load_quietly
from imdbtune.cli.config_flags import TrainFlags
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import details, trial_line

HELP = """Train the one model that a file describes, as a tracked run.

Examples:

  imdbtune train listing_6_23 --data imdb.npz

  imdbtune train listing_6_27 --data imdb.npz --epochs 3

  imdbtune train none --rnn gru --units 16 --data demo
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP, cls=GroupedCommand)(train)


def train(
    space: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="TOML file or bundled workflow; none: all defaults, and flags."
        ),
    ],
    overrides: TrainFlags,
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    config = load_quietly(space, overrides)
    from imdbtune import api
    from imdbtune.cli.progress import make_progress
    from imdbtune.tracking import entities

    with make_progress(as_json=as_json, quiet=quiet) as progress:
        context = api.Context(cache=opt.parse_path(cache), listener=progress)
        trial = api.train(config, context)
    if as_json:
        print_json({"event": "finished", **entities.as_row(trial)})
    else:
        typer.echo(trial_line(trial) if quiet else details(trial, everything=verbose))
