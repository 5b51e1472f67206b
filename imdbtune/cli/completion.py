"""Values that the shell offers, for flags that have a few of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.config.schema import SECTIONS, TUNERS, TrainingConfig, bundled_workflows

Complete = Callable[[str], list[str]]


def completer(name: str) -> Complete | None:
    """What completes the flag (``--rnn``) or argument (``SPACE``); ``None``: file names do."""
    values = _VALUES.get(name)
    if values is None:
        return None
    if name in _LISTED:
        return lambda incomplete: _continued(incomplete, values())
    return lambda incomplete: [value for value in values() if value.startswith(incomplete)]


def _continued(begun: str, values: Iterable[str]) -> list[str]:
    """``lstm,g`` -> ``lstm,gru``: the last one of a list, without those that it has."""
    head, comma, last = begun.rpartition(",")
    had = head.split(",")
    return [f"{head}{comma}{v}" for v in values if v.startswith(last) and v not in had]


def _keys() -> list[str]:
    """``space.rnn=`` and so on, for every key of a configuration file."""
    fields = {section: dataclasses.fields(made) for section, made in SECTIONS.items()}
    keys = [f"{section}.{f.name}=" for section, known in fields.items() for f in known]
    return [*(f"space.{name}=" for name in PARAMETERS), *keys]


def _choices(made: type[Any], key: str) -> tuple[str, ...]:
    (field,) = (f for f in dataclasses.fields(made) if f.name == key)
    return tuple(field.metadata["choices"])


def _sources() -> tuple[str, ...]:
    from imdbtune.data.sources import SOURCES

    return SOURCES


def _formats() -> tuple[str, ...]:
    from imdbtune.export.formats import FORMATS

    return (*FORMATS, "all")


def _files() -> list[str]:
    """Workflows, and the TOML files that lie here."""
    return [*bundled_workflows(), *sorted(path.name for path in Path().glob("*.toml"))]


_LISTED = ("--rnn", "--format")
_VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "--rnn": lambda: _choices(TrialParams, "rnn"),
    "--format": _formats,
    "--data": _sources,
    "--tuner": lambda: TUNERS,
    "--compile": lambda: _choices(TrainingConfig, "compile"),
    "--keep-models": lambda: ("all", "best"),
    "--workers": lambda: ("auto",),
    "--set": _keys,
    "SPACE": _files,
    "MODEL": _files,
}
