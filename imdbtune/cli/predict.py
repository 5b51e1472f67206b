"""``imdbtune predict``."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.errors import UserError, escape_control, quote_path, short_repr

if TYPE_CHECKING:
    from imdbtune.export.occlusion import Explanation
    from imdbtune.export.predictor import Prediction

SHOWN = 10  # words with their effects in numbers
FAINT = 0.1  # of the largest effect: less gets no colour
HELP = """Label review texts with an exported model, or one in MLflow.

Examples:

  imdbtune predict --model winner "a wonderful film"

  imdbtune predict --model winner - < reviews.txt

  imdbtune predict --model winner --file reviews.csv --text-column body --csv

  imdbtune predict --model winner --explain "not good at all"

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
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which words moved the score.")
    ] = False,
    explain_html: Annotated[
        str, typer.Option("--explain-html", metavar="FILE", help="The same as a page.")
    ] = "",
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
        raise UserError(
            f"--text-column {short_repr(text_column)} is of a table; give one by --file."
        )
    if explain_html:
        _check_new(Path(explain_html))
    from imdbtune import api
    from imdbtune.cli.library_output import redirect_library_output
    from imdbtune.cli.progress import stages

    # Bars and results would get into each other's way on a terminal.
    watched = stages() if file and not sys.stdout.isatty() else nullcontext(None)
    with redirect_library_output(), watched as progress:
        from_file = api.read_texts(Path(file), text_column, progress) if file else ()
        given = itertools.chain(_lines(texts or []), from_file)
        where: Where = {
            "model_format": model_format,
            "uri": tracking_uri,
            "cache": opt.optional_path(cache),
        }
        if explain or explain_html:
            _explain(api.explain(model, given, **where), explain_html, as_json)
            return
        say = _print_json if as_json else _csv_printer() if as_csv else _print_line
        for prediction in api.predict(model, given, **where):
            say(prediction)


def _check_new(path: Path) -> None:
    try:
        if not path.parent.is_dir():
            raise UserError(f"no folder {quote_path(path.parent)} for the page; make it first.")
        if path.exists():
            raise UserError(f"{quote_path(path)} is there already; name a new file.")
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(None, "no right to write there, or a read-only disk")
    except OSError as error:
        raise _no_page(path, error) from error


def _no_page(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{quote_path(path)} cannot be written ({error.strerror}); name another file with "
        "--explain-html."
    )


class Where(TypedDict):
    """Which model is meant."""

    model_format: str
    uri: str
    cache: Path | None


def _explain(explanations: Iterator[Explanation], out: str, as_json: bool) -> None:
    kept: list[Explanation] = []
    for explanation in explanations:
        if out:
            kept.append(explanation)
        if as_json:
            words = [[word.word, word.effect] for word in explanation.words]
            print_json({**_as_dict(explanation.prediction), "words": words})
        else:
            _print_line(explanation.prediction)
            _print_words(explanation)
    if out and kept:
        from imdbtune.export.occlusion import page
        from imdbtune.files import is_disk_full, replace_text

        html = page(kept, kept[0].labels).encode("utf-8", errors="replace").decode()
        try:
            replace_text(Path(out), html)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise _no_page(Path(out), error) from error


def _print_words(explanation: Explanation) -> None:
    """The words, in colour where there is any; and in numbers those with the largest effect."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not console.no_color and console.is_terminal:
        text = Text()
        for word in explanation.words:
            text.append(escape_control(word.word), style=_style(word.effect, explanation.largest))
            text.append(" ")
        console.print(text)
    for word in explanation.strongest(SHOWN):
        typer.echo(f"  {word.effect:+8.3f}  {escape_control(word.word)}")


def _style(effect: float | None, largest: float) -> str:
    if effect is None:
        return "dim"
    if abs(effect) < FAINT * largest:
        return ""
    return "white on blue" if effect > 0 else "black on dark_orange"


def _print_json(prediction: Prediction) -> None:
    print_json(_as_dict(prediction))


def _csv_printer() -> Callable[[Prediction], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["label", "probability", "text"])
    watched = sys.stdout.isatty()  # in a file, texts are as they came

    def print_row(prediction: Prediction) -> None:
        text = prediction.text.encode("utf-8", errors="replace").decode()
        text = escape_control(text) if watched else text
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
