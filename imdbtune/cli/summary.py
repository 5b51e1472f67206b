"""``imdbtune summary``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.config_flags import SetOnly
from imdbtune.cli.output import print_json
from imdbtune.config.schema import NO_SPACE, SearchConfig, load_config
from imdbtune.errors import UserError

if TYPE_CHECKING:
    import keras

HELP = """Print models layer by layer with their numbers of parameters.

Without MODEL, it prints the three models of the book's listings, with 322,080, 322,080 and 328,320
parameters.

Examples:

  imdbtune summary

  imdbtune summary listing_6_27

  imdbtune summary --set space.rnn=gru --set space.depth=2 --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(summary)


def summary(
    overrides: SetOnly,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="TOML file or bundled workflow.")
    ] = "",
    as_json: opt.Json = False,
) -> None:
    """Run the command; ``HELP`` is its help text."""
    from imdbtune.cli.library_output import redirect_library_output

    config = load_config(model or NO_SPACE, overrides) if model or overrides else None
    with redirect_library_output():
        models = _model_of(config) if config else _listing_models()
        if as_json:
            print_json([{"about": about, **_describe(network)} for about, network in models])
            return
        for about, network in models:
            if len(models) > 1:
                typer.echo(about)
            network.summary(print_fn=typer.echo)


def _listing_models() -> list[tuple[str, keras.Model]]:
    from imdbtune.models.builders import listing_models

    return listing_models()


def _model_of(config: SearchConfig) -> list[tuple[str, keras.Model]]:
    params = config.space.single()
    if params is None:
        names = ", ".join(d.name for d in config.space.searched)
        raise UserError(
            f"{config.name} leaves {names} open; set each to one value with --set space.NAME=VALUE."
        )
    from imdbtune.models.builders import plain_model

    masked = config.training.batching == "buckets"
    return [(params.label, plain_model(params, masked))]


def _describe(network: keras.Model) -> dict[str, object]:
    """Return the layers of a model with their numbers of parameters."""
    layers = [
        {"name": part.name, "type": type(part).__name__, "parameters": part.count_params()}
        for part in network.layers
    ]
    return {"parameters": network.count_params(), "layers": layers}
