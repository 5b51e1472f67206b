"""Print JSON and the next commands on standard output."""

from __future__ import annotations

import json
import math

import typer


def print_json(facts: object, indent: int | None = None) -> None:
    """Print a value as JSON, with ``null`` for NaN and infinity."""
    typer.echo(json.dumps(_replace_nonfinite(facts), indent=indent, allow_nan=False))


def print_next_steps(commands: str, uri: str) -> None:
    """Print the next commands, with ``--tracking-uri`` if they would not find the store.

    Args:
        uri: the store that this command has used.
    """

    from imdbtune.tracking.connection import hide_secrets, resolve_uri

    used = resolve_uri(uri)
    flag = "" if used == resolve_uri() else f" (with --tracking-uri {hide_secrets(used)})"
    typer.echo(f"next: {commands}{flag}")


def _replace_nonfinite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _replace_nonfinite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_nonfinite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
