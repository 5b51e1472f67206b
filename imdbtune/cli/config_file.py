"""Load the configuration of a command; the user's own code prints nothing."""

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
    metrics = str(overrides.get("training.metrics", ""))
    builds = "model.build" in overrides or ".py" in metrics or _has_own_code(space)
    with redirect_library_output() if builds else nullcontext():
        return load_config(space, overrides)


def _has_own_code(space: str | None) -> bool:
    try:
        text = read_small_text(Path(space or ""))
        return "build" in text or ".py:" in text
    except (OSError, ValueError):
        return False
