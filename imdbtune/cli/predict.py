"""``imdbtune predict``."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdbtune.cli import options as opt
from imdbtune.cli.output import print_json
from imdbtune.config.extensions import FORMATS
from imdbtune.errors import UserError, escape_control, quote_path, short_repr

if TYPE_CHECKING:
    from imdbtune.export.occlusion import Explanation
    from imdbtune.export.predictor import Prediction

LABELS_SHOWN = 3  # the most probable ones of more than two
WORDS_SHOWN = 10  # with their effects in numbers
MIN_COLOURED = 0.1  # of the largest effect; smaller effects get no colour
HELP = """Predict the labels of reviews with a trained model.

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
        typer.Argument(
            metavar="TEXT", help="Review texts; - reads one per line from standard input."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="DIR|URI",
            help="Folder written by imdbtune best --export, or an MLflow model: "
            "models:/NAME@champion or runs:/ID/model.",
        ),
    ] = "",
    model_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Format of the exported model; by default the first that the folder has of "
            f"{', '.join(FORMATS)}.",
        ),
    ] = "",
    file: Annotated[
        str,
        typer.Option(
            "--file",
            metavar="FILE",
            help="File with reviews: a table (.csv .tsv .jsonl .parquet), or one review per line.",
        ),
    ] = "",
    text_column: opt.TextColumn = "",
    tracking_uri: opt.Uri = "",
    cache: opt.Cache = "",
    trust_model: opt.TrustModel = False,
    as_json: opt.Json = False,
    as_csv: opt.Csv = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the effect of each word on the score.")
    ] = False,
    explain_html: Annotated[
        str,
        typer.Option(
            "--explain-html", metavar="FILE", help="Write the effects of the words as an HTML page."
        ),
    ] = "",
) -> None:
    """Run the command; ``HELP`` is its help text."""
    if not model:
        raise UserError(
            "--model is missing; give the folder written by imdbtune best --export DIR, or a "
            "models:/ URI."
        )
    if not texts and not file:
        raise UserError(
            "no review was given; give texts in quotes, - to read one per line from standard "
            "input, or --file FILE."
        )
    if as_json and as_csv:
        raise opt.mutually_exclusive("--json", "--csv")
    if text_column and not file:
        raise UserError(
            f"--text-column {short_repr(text_column)} needs a table; give one with --file FILE."
        )
    if explain_html:
        _check_new(Path(explain_html))
    from imdbtune import api
    from imdbtune.cli.library_output import redirect_library_output
    from imdbtune.cli.stages import show_stages
    from imdbtune.data.columns import read_texts

    # On a terminal, progress bars and results would overwrite each other.
    stages = show_stages() if file and not sys.stdout.isatty() else nullcontext(None)
    with redirect_library_output(), stages as progress:
        from_file = read_texts(Path(file), text_column, progress) if file else ()
        reviews = itertools.chain(_read_arguments(texts or []), from_file)
        folder = opt.parse_path(cache)
        context = api.Context(uri=tracking_uri, cache=folder, trust_model=trust_model)
        if explain or explain_html:
            _explain(
                api.explain(model, reviews, context, model_format=model_format),
                explain_html,
                as_json,
            )
            return
        predictions = api.predict(model, reviews, context, model_format=model_format)
        first = next(predictions, None)
        show = _print_json if as_json else _csv_printer(first) if as_csv else _print_line
        for prediction in itertools.chain([first] if first else [], predictions):
            show(prediction)


def _check_new(path: Path) -> None:
    try:
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {quote_path(path.parent)}; create it first.")
        if path.exists():
            raise UserError(f"{quote_path(path)} already exists; give a new file name.")
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(None, "no permission to write there, or a read-only disk")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{quote_path(path)} cannot be written ({error.strerror}); give another file with "
        "--explain-html."
    )


def _explain(explanations: Iterator[Explanation], out: str, as_json: bool) -> None:
    shown: list[Explanation] = []
    for explanation in explanations:
        if out:
            shown.append(explanation)
        if as_json:
            words = [[word.word, word.effect] for word in explanation.words]
            print_json({**_as_dict(explanation.prediction), "words": words})
        else:
            _print_line(explanation.prediction)
            _print_words(explanation)
    if out and shown:
        from imdbtune.export.occlusion import page
        from imdbtune.files import is_disk_full, replace_text

        html = page(shown).encode("utf-8", errors="replace").decode()
        try:
            replace_text(Path(out), html)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise _unwritable(Path(out), error) from error


def _print_words(explanation: Explanation) -> None:
    """Print the words, coloured if the terminal can, and the largest effects as numbers."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not console.no_color and console.is_terminal:
        text = Text()
        for word in explanation.words:
            text.append(escape_control(word.word), style=_style(word.effect, explanation.largest))
            text.append(" ")
        console.print(text)
    for word in explanation.strongest(WORDS_SHOWN):
        typer.echo(f"  {word.effect:+8.3f}  {escape_control(word.word)}")


def _style(effect: float | None, largest: float) -> str:
    if effect is None:
        return "dim"
    if abs(effect) < MIN_COLOURED * largest:
        return ""
    return "white on blue" if effect > 0 else "black on dark_orange"


def _print_json(prediction: Prediction) -> None:
    print_json(_as_dict(prediction))


def _csv_printer(first: Prediction | None) -> Callable[[Prediction], None]:
    """Return a function that prints a row, after a header for the first prediction."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    numbers = range(2, 1 + len(first.ranking[:LABELS_SHOWN] if first else ()))
    more = [name for number in numbers for name in (f"label_{number}", f"probability_{number}")]
    writer.writerow(["label", "probability", *more, "text"])
    is_terminal = sys.stdout.isatty()  # a file gets the texts unchanged

    def print_row(prediction: Prediction) -> None:
        text = prediction.text.encode("utf-8", errors="replace").decode()
        text = escape_control(text) if is_terminal else text
        top = prediction.ranking[:LABELS_SHOWN] or [(prediction.label, prediction.probability)]
        writer.writerow([*(v for label, p in top for v in (label, f"{p:.6f}")), text])

    return print_row


def _print_line(prediction: Prediction) -> None:
    typer.echo(_as_line(prediction))


def _as_dict(prediction: Prediction) -> dict[str, object]:
    facts: dict[str, object] = {"label": prediction.label, "probability": prediction.probability}
    if prediction.ranking:
        facts["probabilities"] = dict(prediction.ranking)
    return {**facts, "text": prediction.text}


def _as_line(prediction: Prediction) -> str:
    start = " ".join(prediction.text[:200].split())
    shortened = start if len(start) <= 60 else start[:57] + "..."
    printable = "".join(c if c.isprintable() else "?" for c in shortened)
    if prediction.ranking:
        top = (f"{label} {share:.4f}" for label, share in prediction.ranking[:LABELS_SHOWN])
        return f"{', '.join(top)}  {printable}"
    return f"{prediction.label:<9}{prediction.probability:.4f}  {printable}"


def _read_arguments(texts: list[str]) -> Iterator[str]:
    """Yield the texts of the command line; ``-`` stands for the lines of standard input."""
    from imdbtune.data.columns import read_reviews_by_line

    for text in texts:
        if text != "-":
            yield text
            continue
        if sys.stdin is not None:  # None if it is closed
            yield from read_reviews_by_line(sys.stdin.buffer, "standard input")
