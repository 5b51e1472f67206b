"""The record of a run: an artifact with its settings, the versions of packages and the machine.

Tags are the facts by which users filter, and those that are read of many runs at once. The record
has all others, under the names that they had as tags of early versions.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imdbtune import __version__
from imdbtune.errors import escape_control
from imdbtune.tracking.reader import read_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.tracking.entities import Search, Trial
    from imdbtune.tracking.outbox import Outbox
    from imdbtune.tracking.sqlite_reader import Runs

NAME = "record.json"
PACKAGES = ("tensorflow", "keras", "keras-tuner", "mlflow", "numpy")
_SETTINGS = (
    *("executions", "epochs", "patience", "compile", "initial_epoch", "hold_out"),
    *("schedule_epochs", "config_digest", "fold_seed", "class_weight"),
)
_RECORDED = {f"imdbtune.{name}" for name in _SETTINGS}


def is_tag(name: str) -> bool:
    """Return whether a fact about a run is a tag, not a line of its record."""
    return name not in _RECORDED and not name.startswith("version.")


def named(settings: Mapping[str, object]) -> dict[str, str]:
    """Return settings by the names of tags; empty ones are left out."""
    return {f"imdbtune.{name}": str(value) for name, value in settings.items() if value != ""}


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of imdbtune and of the packages that training depends on."""
    found = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {f"version.{name}": v for name, v in {"imdbtune": __version__, **found}.items()}


def git_commit() -> str:
    """Return the git commit of the working directory; empty outside of a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def as_json(facts: Mapping[str, str]) -> str:
    """Return the text of a record."""
    return json.dumps(dict(sorted(facts.items())), indent=1)


def write(client: MlflowClient | Outbox, run_id: str, facts: Mapping[str, str]) -> None:
    """Log the facts about a run that are no tags as its record."""
    recorded = {name: value for name, value in facts.items() if not is_tag(name)}
    client.log_text(run_id, as_json(recorded), NAME)


def read_facts(client: Runs, run: Trial | Search) -> dict[str, str]:
    """Return the facts in the tags and the record of a run; one that cannot be read has none."""
    try:
        recorded = json.loads(read_text(client, run.run_id, NAME) or "{}")
    except (ValueError, RecursionError):
        recorded = {}
    facts = recorded.items() if isinstance(recorded, dict) else ()
    return {escape_control(key): escape_control(str(value)) for key, value in facts} | run.tags
