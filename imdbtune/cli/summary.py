"""``imdbtune summary``."""

from __future__ import annotations

from typing import Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.errors import UserError

HELP = """Print models layer by layer with their numbers of parameters.

Without MODEL: the three of the book, with 322,080, 322,080 and 328,320 parameters.

Examples:

  imdbtune summary

  imdbtune summary listing_6_27
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(summary)


def summary(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="TOML file or workflow.")] = "",
    settings: opt.Settings = None,
) -> None:
    """See HELP."""
    from imdbtune.cli.chatter import chatter_to_log

    if not (model or settings):
        with chatter_to_log():
            _listing_models()
        return
    config = opt.configuration(model, {}, settings)
    params = config.space.single()
    if params is None:
        names = ", ".join(d.name for d in config.space.searched)
        raise UserError(f"{config.name} leaves {names} open; fix them with --set space.NAME=VALUE.")
    with chatter_to_log():
        from imdbtune.model import plain_model

        masked = config.training.batching == "buckets"
        plain_model(params, masked).summary(print_fn=typer.echo)


def _listing_models() -> None:
    from imdbtune.model import listing_models

    for about, shown in listing_models():
        typer.echo(about)
        shown.summary(print_fn=typer.echo)
