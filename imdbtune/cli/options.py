"""Flags that several commands share, and how their values are read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from imdbtune.cli.config_flags import DATA, OUTPUT, PLACE, URI_HELP
from imdbtune.errors import UserError, short_repr

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
SearchNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SEARCH", help="Names or run ids of searches; by default the last search."
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
Uri = Annotated[str, typer.Option("--tracking-uri", metavar="URI", help=URI_HELP)]
Cache = Annotated[
    str,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Folder of downloaded and converted reviews; default IMDBTUNE_CACHE.",
        rich_help_panel=DATA,
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Number of worker processes; auto: one per core; 0: train in this process, for "
        "debugging.",
        rich_help_panel=PLACE,
    ),
]
TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model",
        help="Run the source of a model that you have not brought along in this folder.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON on standard output.", rich_help_panel=OUTPUT),
]
NotifyUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        metavar="URL",
        help="Send a message there at the end, on failure, and if the tracking store stays away: "
        "an address of apprise, such as ntfy://TOPIC. May be repeated.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print only the result, without progress.",
        rich_help_panel=OUTPUT,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also print folders, versions and the output of libraries.",
        rich_help_panel=OUTPUT,
    ),
]


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


def parse_number(flag: str, text: str, low: float, high: float) -> float:
    """Return the number of a flag, from ``low`` to ``high``.

    Raises:
        UserError: the text is something else.
    """
    with suppress(ValueError):
        if low <= (number := float(text)) <= high:
            return number
    raise UserError(
        f"{flag} {short_repr(text)} is not allowed; give a number from {low:g} to {high:g}."
    )


def mutually_exclusive(first: str, second: str) -> UserError:
    """Return the error that two flags cannot be combined."""
    return UserError(f"{first} and {second} are mutually exclusive; give only one of them.")
