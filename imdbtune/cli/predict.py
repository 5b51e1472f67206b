"""``imdbtune predict``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.errors import UserError

if TYPE_CHECKING:
    from imdbtune.predict import Prediction

HELP = """Label review texts with an exported model.

Examples:

  imdbtune predict --model winner "a wonderful film"

  imdbtune predict --model winner - < reviews.txt
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(help=HELP)(predict)


def predict(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...", help="Reviews; - reads one a line from standard input."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="DIR", help="A folder of imdbtune best --export.")
    ] = "",
    as_json: opt.Json = False,
) -> None:
    """See HELP."""
    if not model:
        raise UserError("no --model; give the folder that imdbtune best --export DIR has written.")
    if not texts:
        raise UserError(
            "no text; give reviews in quotes, or - to read one a line from standard input."
        )
    from imdbtune import api
    from imdbtune.cli.chatter import chatter_to_log

    with chatter_to_log():
        for prediction in api.predict(Path(model), _lines(texts)):
            typer.echo(_as_json(prediction) if as_json else _as_line(prediction))


def _as_json(prediction: Prediction) -> str:
    facts = {"label": prediction.label, "probability": prediction.probability}
    return json.dumps({**facts, "text": prediction.text})


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
