"""``imdbtune predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import UserError

if TYPE_CHECKING:
    from imdbtune.predict import Prediction

HELP = """Label review texts with an exported model, or one in MLflow.

Examples:

  imdbtune predict --model winner "a wonderful film"

  imdbtune predict --model winner - < reviews.txt

  imdbtune predict --model models:/reviews@champion "a wonderful film"
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(predict)


def predict(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Reviews; - reads one a line from standard input."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="DIR|URI",
            help="A folder of imdbtune best --export, or models:/NAME@champion, runs:/ID/model.",
        ),
    ] = "",
    model_format: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME", help="Which format of the folder; default its first."
        ),
    ] = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
) -> None:
    """See HELP."""
    if not model:
        raise UserError(
            "no --model; give the folder that imdbtune best --export DIR has written, or a "
            "models:/ URI."
        )
    if not texts:
        raise UserError(
            "no text; give reviews in quotes, or - to read one a line from standard input."
        )
    from imdbtune import api
    from imdbtune.cli.chatter import chatter_to_log

    with chatter_to_log():
        for prediction in api.predict(
            model,
            _lines(texts),
            model_format=model_format,
            uri=tracking_uri,
            cache=opt.optional_path(cache),
        ):
            if as_json:
                print_json(_as_dict(prediction))
            else:
                typer.echo(_as_line(prediction))


def _as_dict(prediction: Prediction) -> dict[str, object]:
    facts = {"label": prediction.label, "probability": prediction.probability}
    return {**facts, "text": prediction.text}


def _as_line(prediction: Prediction) -> str:
    start = " ".join(prediction.text[:200].split())
    cut = start if len(start) <= 60 else start[:57] + "..."
    printable = "".join(c if c.isprintable() else "?" for c in cut)
    return f"{prediction.label:<9}{prediction.probability:.4f}  {printable}"


def _lines(texts: list[str]) -> Iterator[str]:
    for text in texts:
        if text != "-":
            yield text
            continue
        for line in sys.stdin.buffer if sys.stdin else ():  # None where it is closed
            yield line.rstrip(b"\r\n").decode("utf-8", errors="replace")
