"""Flags that several commands share, and the configuration that results from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdbtune.config.extensions import SOURCES
from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.errors import UserError, short_repr

Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help=f"Reviews: {', '.join(SOURCES)}. auto is imdb, or demo where imdb cannot be "
        "downloaded.",
    ),
]
DataLocation = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="Where the reviews are now; by default where they were in training.",
    ),
]
SearchName = Annotated[
    str,
    typer.Argument(
        metavar="SEARCH", help="Name or run id of a search; by default the last search."
    ),
]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")]
TextColumn = Annotated[
    str,
    typer.Option(
        "--text-column",
        metavar="NAME",
        help="Column of a table with the texts; by default found by its name or contents.",
    ),
]
LabelColumn = Annotated[
    str,
    typer.Option(
        "--label-column",
        metavar="NAME",
        help="Column of a table with the two labels; by default found by its name or contents.",
    ),
]
SplitColumn = Annotated[
    str,
    typer.Option(
        "--split-column",
        metavar="NAME",
        help="Column of a table that says train or test; by default split if there is such a "
        "column; none: no column.",
    ),
]
TestShare = Annotated[
    str,
    typer.Option(
        "--test-share",
        metavar="SHARE",
        help="Share of the rows to hold out as test reviews if no column says so; default 0.2.",
    ),
]
Uri = Annotated[
    str,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow tracking store; default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.",
    ),
]
Cache = Annotated[
    str,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Folder of downloaded and converted reviews; default IMDBTUNE_CACHE.",
    ),
]
Epochs = Annotated[
    str,
    typer.Option(
        "--epochs", metavar="N", help="Maximum number of passes over the training reviews."
    ),
]
Seed = Annotated[
    str,
    typer.Option("--seed", metavar="N", help="Random seed; the same seed gives the same results."),
]
Reviews = Annotated[
    str,
    typer.Option("--reviews", metavar="N", help="Use only the first N training reviews; 0: all."),
]
Experiment = Annotated[
    str, typer.Option("--experiment", metavar="NAME", help="Name of the MLflow experiment.")
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the run in MLflow.")]
Compile = Annotated[
    str,
    typer.Option(
        "--compile",
        metavar="auto|on|off",
        help="Compile training with XLA; auto: if the training is long enough to gain from it.",
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Number of worker processes; auto: one per core; 0: train in this process, for "
        "debugging.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key of the configuration file, such as space.pooling=last,max or "
        "training.patience=3. May be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result, without progress.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Also print folders, versions and the output of libraries."
    ),
]


def data_flags(
    source: str, text_column: str, label_column: str, split_column: str, test_share: str
) -> dict[str, str]:
    """Return the flags of the reviews by dotted key."""
    return {
        "data.source": source,
        "data.text_column": text_column,
        "data.label_column": label_column,
        "data.split_column": split_column,
        "data.test_share": test_share,
    }


def merge_flags(flags: dict[str, str], settings: list[str] | None) -> dict[str, object]:
    """Return the flags and ``--set`` values by dotted key; an empty flag counts as not given.

    Raises:
        UserError: a ``--set`` without key or value.
    """
    merged: dict[str, object] = {key: value for key, value in flags.items() if value}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or "." not in key:
            raise UserError(
                f"--set {short_repr(setting)} is not SECTION.KEY=VALUE; "
                "write for example --set training.patience=3."
            )
        merged[key.strip()] = value.strip()
    return merged


def load_configuration(
    file: str, flags: dict[str, str], settings: list[str] | None
) -> SearchConfig:
    """Return the configuration of a file or bundled workflow; flags override it.

    Raises:
        UserError: a wrong key or value.
    """
    return load_config(file or None, merge_flags(flags, settings))


def check_not_empty(flag: str, text: str | None) -> None:
    """Raise UserError if a flag was given with an empty value."""
    if text is not None and not text.strip():
        raise UserError(f"{flag} is empty; give a value, or omit it.")


def parse_path(text: str) -> Path | None:
    """Return the path of a flag, or ``None`` if it was not given."""
    return Path(text) if text else None


def parse_workers(text: str) -> int | None:
    """Return the number of worker processes; ``None``: one per core."""
    return None if text in ("", "auto") else parse_int("--workers", text, 0, 1024)


def parse_int(flag: str, text: str, low: int, high: int) -> int:
    """Return the whole number of a flag, from ``low`` to ``high``.

    Raises:
        UserError: the text is something else.
    """
    if text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high:
        return int(text)
    raise UserError(
        f"{flag} {short_repr(text)} is not allowed; give a whole number from {low} to {high}."
    )


def mutually_exclusive(first: str, second: str) -> UserError:
    """Return the error that two flags cannot be combined."""
    return UserError(f"{first} and {second} are mutually exclusive; give only one of them.")
