"""Bringing a search's journal and MLflow into agreement before it goes on."""

from __future__ import annotations

import tempfile
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune import results, tracking
from imdbtune.config import SearchConfig, parse_config
from imdbtune.errors import UserError
from imdbtune.journal import Event, Journal
from imdbtune.results import Search, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAY_CHANGE = (
    "tuner.max_trials",
    "tuner.max_minutes",
    "tuner.trial_timeout",
    "tuner.retries",
    "tracking.uri",
    "tracking.keep_models",
    "tracking.report",
)


def stored_config(
    client: MlflowClient, search: Search, overrides: Mapping[str, object]
) -> SearchConfig:
    """The configuration that the search was begun with, with changed limits at most.

    Raises:
        UserError: it cannot be read, or an override would change what the trials are.
    """
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = client.download_artifacts(search.run_id, "config.toml", folder)
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (MlflowException, OSError, ValueError) as error:
        raise UserError(
            f"the configuration of search {search.name!r} cannot be read: {error}"
        ) from error
    before, after = parse_config(table), parse_config(table, overrides)
    changed = _difference(before.as_dict(), after.as_dict())
    forbidden = {key: values for key, values in changed.items() if key not in MAY_CHANGE}
    if forbidden:
        told = "; ".join(f"{key} was {was!r}, now {now!r}" for key, (was, now) in forbidden.items())
        raise UserError(
            f"a search goes on as it was begun ({told}); only --max-trials, --max-minutes, "
            "--trial-timeout and --retries may change. Leave the flags out, or begin a new search."
        )
    return after


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    changed = {}
    for section in sorted(before.keys() | after.keys()):
        was, now = before.get(section), after.get(section)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            for key in sorted(was.keys() | now.keys()):
                if was.get(key) != now.get(key):
                    changed[f"{section}.{key}"] = (was.get(key), now.get(key))
        elif was != now:
            changed[section] = (was, now)
    return changed


def reconcile(
    client: MlflowClient, search: Search, journal: Journal, retries: int = 0
) -> list[Event]:
    """The journal's events, completed with what only MLflow knows; no child is left RUNNING.

    A trial that a worker has finished but that the driver did not live to note down is told to
    the oracle, not trained again. One that has failed is, if it has not had all its ``retries``.
    """
    events = journal.read()
    known = {e["trial_id"] for e in events if e["event"] == "asked"}
    ended = {e["trial_id"] for e in events if e["event"] == "ended"}
    noted = {e["run_id"] for e in events if e["event"] in ("ended", "failed", "lost")}
    failures = Counter(e["trial_id"] for e in events if e["event"] == "failed")
    for trial in results.read_trials(client, search):
        if trial.status in ("RUNNING", "SCHEDULED"):
            tracking.Run(client, trial.run_id).end("KILLED", "the search was cut off")
        elif (
            trial.trial_id in known - ended
            and trial.run_id not in noted
            and trial.status in ("FINISHED", "FAILED")
        ):
            again = trial.status == "FAILED" and failures[trial.trial_id] < retries
            events.append(_as_event(trial, "failed" if again else "ended"))
            journal.append(events[-1])
            if not again:
                ended.add(trial.trial_id)
    return events


def _as_event(trial: Trial, kind: str) -> Event:
    facts = {"event": kind, "trial_id": trial.trial_id, "run_id": trial.run_id}
    if kind == "failed":
        return {**facts, "reason": trial.reason}
    score = trial.score if trial.status == "FINISHED" else None
    return {**facts, "score": score, "reason": trial.reason}
