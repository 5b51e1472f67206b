"""``imdbtune train``."""

from __future__ import annotations

from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.cli.tables import details, trial_line

HELP = """Train the one model that a file describes, as a tracked run.

Examples:

  imdbtune train listing_6_23 --data imdb.npz

  imdbtune train listing_6_27 --data imdb.npz --epochs 3
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(train)


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="TOML file or bundled workflow.")],
    data: opt.Data = "",
    text_column: opt.TextColumn = "",
    label_column: opt.LabelColumn = "",
    split_column: opt.SplitColumn = "",
    test_share: opt.TestShare = "",
    settings: opt.Settings = None,
    epochs: opt.Epochs = "",
    seed: opt.Seed = "",
    reviews: opt.Reviews = "",
    compile: opt.Compile = "",
    name: opt.Name = "",
    experiment: opt.Experiment = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    flags = {
        "name": name,
        **opt.data_flags(data, text_column, label_column, split_column, test_share),
        "data.reviews": reviews,
        "tuner.seed": seed,
        "training.epochs": epochs,
        "training.compile": compile,
        "tracking.experiment": experiment,
        "tracking.uri": tracking_uri,
    }
    config = opt.load_configuration(model, flags, settings)
    from imdbtune import api
    from imdbtune.cli.progress import make_progress
    from imdbtune.tracking import reader

    with make_progress(as_json=as_json, quiet=quiet) as progress:
        context = api.Context(cache=opt.parse_path(cache), listener=progress)
        trial = api.train(config, context)
    if as_json:
        print_json({"event": "finished", **reader.as_row(trial)})
    else:
        typer.echo(trial_line(trial) if quiet else details(trial))
