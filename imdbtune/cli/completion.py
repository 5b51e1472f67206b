"""Shell completion of flag values and arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import typer

from imdbtune.cli.config_flags import SEARCH_ROWS, SPACE_ROWS
from imdbtune.config.extensions import FORMATS, SOURCES
from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.config.schema import NO_SPACE, SECTIONS, bundled_workflows
from imdbtune.errors import UserError

MAX_SEARCHES = 200
Complete = Callable[[str], list[str]] | Callable[[typer.Context, str], list[str]]


def make_completer(name: str) -> Complete | None:
    """Return the completion of a flag (``--rnn``) or argument (``SPACE``).

    ``None``: the shell completes file names.
    """
    if name in _SEARCHES:
        return complete_search
    values = _VALUES.get(name)
    if values is None:
        return None
    if name in _LISTS:
        return lambda incomplete: _complete_list(incomplete, values())
    return lambda incomplete: [value for value in values() if value.startswith(incomplete)]


def _complete_list(incomplete: str, values: Iterable[str]) -> list[str]:
    """Complete the last item of a list with values that it lacks: ``lstm,g`` -> ``lstm,gru``."""
    head, comma, last = incomplete.rpartition(",")
    present = head.split(",")
    return [f"{head}{comma}{v}" for v in values if v.startswith(last) and v not in present]


def _config_keys() -> list[str]:
    """Return every key of a configuration file, as ``space.rnn=``."""
    keys = [
        f"{section}.{field.name}="
        for section, settings in SECTIONS.items()
        for field in dataclasses.fields(settings)
    ]
    return [*(f"space.{name}=" for name in PARAMETERS), *keys]


def _sources() -> list[str]:
    """Return the sources that have a name; the others are written as paths and the like."""
    return [name for name in SOURCES if name.islower()]


def _files() -> list[str]:
    """Return the bundled workflows and the TOML files of the working directory."""
    return [*bundled_workflows(), NO_SPACE, *sorted(path.name for path in Path().glob("*.toml"))]


def complete_search(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of searches in an SQLite store; MLflow would take too long to import."""
    from imdbtune.tracking.connection import resolve_uri
    from imdbtune.tracking.sqlite_reader import sqlite_runs

    with suppress(UserError, OSError):
        runs = sqlite_runs(resolve_uri(ctx.params.get("tracking_uri") or ""))
        found = runs.find({"imdbtune.kind": "search"}, MAX_SEARCHES) if runs else []
        names = dict.fromkeys(str(run.data.tags.get("imdbtune.search", "")) for run in found)
        return [name for name in names if name.isprintable() and name.startswith(incomplete)]
    return []


_SEARCHES = ("SEARCH", "--search")
_LISTS = ("--format", "--objective", *(row.name for row in SPACE_ROWS))
_VALUES: dict[str, Callable[[], Iterable[str]]] = {
    **{row.name: partial(tuple, row.choices) for row in SEARCH_ROWS if row.choices},
    "--format": lambda: (*FORMATS, "all"),
    "--data": _sources,
    "--keep-models": lambda: ("all", "best"),
    "--workers": lambda: ("auto",),
    "--set": _config_keys,
    "SPACE": _files,
    "--space": _files,
    "MODEL": _files,
}
