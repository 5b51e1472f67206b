"""Flags that several commands share, and the configuration that they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.errors import UserError, short_repr

Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="auto, imdb, demo, imdb.npz, a table (.csv .tsv .jsonl .parquet), or a folder.",
    ),
]
DataNow = Annotated[
    str, typer.Option("--data", metavar="SOURCE", help="Where the reviews are; default as was.")
]
SearchName = Annotated[
    str, typer.Argument(metavar="SEARCH", help="Name or run id; default the last.")
]
Csv = Annotated[bool, typer.Option("--csv", help="CSV on standard output.")]
TextColumn = Annotated[
    str, typer.Option("--text-column", metavar="NAME", help="Of a table, its texts; else found.")
]
LabelColumn = Annotated[
    str, typer.Option("--label-column", metavar="NAME", help="Its two labels; else found.")
]
SplitColumn = Annotated[
    str,
    typer.Option("--split-column", metavar="NAME", help="Its train or test; default split; none."),
]
TestShare = Annotated[
    str, typer.Option("--test-share", metavar="SHARE", help="Of its rows, to test; default 0.2.")
]
Uri = Annotated[
    str,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow store; default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.",
    ),
]
Cache = Annotated[
    str,
    typer.Option("--cache", metavar="DIR", help="Where data is kept; default IMDBTUNE_CACHE."),
]
Epochs = Annotated[str, typer.Option("--epochs", metavar="N", help="Passes over the reviews.")]
Seed = Annotated[str, typer.Option("--seed", metavar="N", help="Same seed, same results.")]
Reviews = Annotated[
    str, typer.Option("--reviews", metavar="N", help="Only the first N training reviews; 0: all.")
]
Experiment = Annotated[str, typer.Option("--experiment", metavar="NAME", help="MLflow experiment.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="The run's name in MLflow.")]
Compile = Annotated[
    str, typer.Option("--compile", metavar="auto|on|off", help="Compile training with XLA.")
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers", metavar="N|auto", help="Processes; auto: one a core; 0: none, for debugging."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the file, such as space.pooling=last,max or training.patience=3.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON for machines on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, without progress.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also where it works, and what libraries say.")
]


def overrides(flags: dict[str, str], settings: list[str] | None) -> dict[str, object]:
    """What is given on the command line, by dotted key; an empty flag counts as not given.

    Raises:
        UserError: a ``--set`` without key or value.
    """
    given: dict[str, object] = {key: value for key, value in flags.items() if value}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or "." not in key:
            raise UserError(
                f"--set {short_repr(setting)} is not SECTION.KEY=VALUE; "
                "write for example --set training.patience=3."
            )
        given[key.strip()] = value.strip()
    return given


def configuration(file: str, flags: dict[str, str], settings: list[str] | None) -> SearchConfig:
    """The file (or bundled workflow) with flags over it.

    Raises:
        UserError: a wrong key or value.
    """
    return load_config(file or None, overrides(flags, settings))


def optional_path(text: str) -> Path | None:
    """A path flag, if it was given."""
    return Path(text) if text else None


def worker_count(text: str) -> int | None:
    """How many worker processes are asked for; ``None``: one a core."""
    return None if text in ("", "auto") else whole_number("--workers", text, 0, 1024)


def whole_number(flag: str, text: str, low: int, high: int) -> int:
    """A number given on the command line, or UserError with the limits."""
    if text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high:
        return int(text)
    raise UserError(
        f"{flag} {short_repr(text)} is not allowed; it is a whole number, {low} to {high}."
    )
