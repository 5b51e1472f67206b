"""``imdbtune predict``."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import UserError, shown

if TYPE_CHECKING:
    from imdbtune.predict import Prediction

HELP = """Label review texts with an exported model, or one in MLflow.

Examples:

  imdbtune predict --model winner "a wonderful film"

  imdbtune predict --model winner - < reviews.txt

  imdbtune predict --model winner --file reviews.csv --text-column body --csv

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
    file: Annotated[
        str,
        typer.Option(
            "--file",
            metavar="FILE",
            help="A table (.csv .tsv .jsonl .parquet), or one review a line.",
        ),
    ] = "",
    text_column: opt.TextColumn = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    as_json: opt.Json = False,
    as_csv: opt.Csv = False,
) -> None:
    """See HELP."""
    if not model:
        raise UserError(
            "no --model; give the folder that imdbtune best --export DIR has written, or a "
            "models:/ URI."
        )
    if not texts and not file:
        raise UserError(
            "no text; give reviews in quotes, - to read one a line from standard input, or --file."
        )
    if as_json and as_csv:
        raise UserError("--json and --csv both came; give one of the two.")
    if text_column and not file:
        raise UserError(f"--text-column {shown(text_column)} is of a table; give one by --file.")
    from imdbtune import api
    from imdbtune.cli.chatter import chatter_to_log
    from imdbtune.cli.progress import stages

    say = _print_json if as_json else _csv_printer() if as_csv else _print_line
    # Bars and results would get into each other's way on a terminal.
    watched = stages() if file and not sys.stdout.isatty() else nullcontext(None)
    with chatter_to_log(), watched as progress:
        from_file = api.read_texts(Path(file), text_column, progress) if file else ()
        for prediction in api.predict(
            model,
            itertools.chain(_lines(texts or []), from_file),
            model_format=model_format,
            uri=tracking_uri,
            cache=opt.optional_path(cache),
        ):
            say(prediction)


def _print_json(prediction: Prediction) -> None:
    print_json(_as_dict(prediction))


def _csv_printer() -> Callable[[Prediction], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["label", "probability", "text"])

    def print_row(prediction: Prediction) -> None:
        text = prediction.text.encode("utf-8", errors="replace").decode()
        writer.writerow([prediction.label, f"{prediction.probability:.6f}", text])

    return print_row


def _print_line(prediction: Prediction) -> None:
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
