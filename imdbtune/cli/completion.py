"""Shell completion of flag values and arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from imdbtune.config.extensions import FORMATS, SAMPLERS, SOURCES
from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.config.schema import SECTIONS, TrainingConfig, bundled_workflows

Complete = Callable[[str], list[str]]


def make_completer(name: str) -> Complete | None:
    """Return the completion of a flag (``--rnn``) or argument (``SPACE``).

    ``None``: the shell completes file names.
    """
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


def _choices(settings: type[Any], key: str) -> tuple[str, ...]:
    (field,) = (f for f in dataclasses.fields(settings) if f.name == key)
    return tuple(field.metadata["choices"])


def _sources() -> list[str]:
    """Return the sources that have a name; the others are written as paths and the like."""
    return [name for name in SOURCES if name.islower()]


def _files() -> list[str]:
    """Return the bundled workflows and the TOML files of the working directory."""

    return [*bundled_workflows(), *sorted(path.name for path in Path().glob("*.toml"))]


_LISTS = ("--rnn", "--format")
_VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "--rnn": lambda: _choices(TrialParams, "rnn"),
    "--format": lambda: (*FORMATS, "all"),
    "--data": _sources,
    "--tuner": lambda: SAMPLERS,
    "--compile": lambda: _choices(TrainingConfig, "compile"),
    "--keep-models": lambda: ("all", "best"),
    "--workers": lambda: ("auto",),
    "--set": _config_keys,
    "SPACE": _files,
    "MODEL": _files,
}
