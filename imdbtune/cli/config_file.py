"""Load the configuration of a command; dry builds of an own model print nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from imdbtune.cli.library_output import redirect_library_output
from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.files import read_small_text


def load_quietly(space: str | None, overrides: Mapping[str, object]) -> SearchConfig:
    """Return what :func:`imdbtune.config.schema.load_config` does; libraries write to a log.

    Raises:
        UserError: as there.
    """
    builds = "model.build" in overrides or _has_model(space)
    with redirect_library_output() if builds else nullcontext():
        return load_config(space, overrides)


def _has_model(space: str | None) -> bool:
    try:
        return "build" in read_small_text(Path(space or ""))
    except (OSError, ValueError):
        return False
