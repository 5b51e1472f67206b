"""Results for machines, and what to do next, on standard output."""

from __future__ import annotations

import json
import math
from typing import Any

import typer


def print_json(facts: Any, indent: int | None = None) -> None:
    """A value as JSON, which knows no NaN and no infinity: they are ``null``."""
    typer.echo(json.dumps(_finite(facts), indent=indent, allow_nan=False))


def tell_next(commands: str, uri: str) -> None:
    """What to do next, and how those commands find the store if it was named by a flag.

    Args:
        uri: the store that this command has used.
    """
    from imdbtune.tracking.connection import hide_secrets, resolve_uri

    used = resolve_uri(uri)
    flag = "" if used == resolve_uri() else f" (with --tracking-uri {hide_secrets(used)})"
    typer.echo(f"next: {commands}{flag}")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
