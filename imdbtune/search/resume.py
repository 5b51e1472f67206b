"""Bringing a search's journal and MLflow into agreement before it goes on."""

from __future__ import annotations

import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.errors import UserError
from imdbtune.search.journal import Event, Journal
from imdbtune.tracking import reader, writer
from imdbtune.tracking.reader import Search, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

LIMITS = ("tuner.max_trials", "tuner.max_minutes", "tuner.trial_timeout", "tuner.retries")
MAY_CHANGE = (
    *LIMITS,
    "tracking.uri",
    "tracking.report",
    "tracking.baseline",
    "cluster.address",
)
CRASHED = "the search was cut off"


def stored_config(client: MlflowClient, search: Search) -> SearchConfig:
    """The configuration that the search was begun with.

    Raises:
        UserError: it cannot be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = client.download_artifacts(search.run_id, "config.toml", folder)
            return parse_config(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except (MlflowException, OSError, ValueError, UserError) as error:
        raise UserError(
            f"the configuration of search {search.name!r} cannot be read: {error}"
        ) from error


def changed_config(
    before: SearchConfig, journal: Journal, overrides: Mapping[str, object]
) -> SearchConfig:
    """The configuration with other limits at most: given now, or else earlier.

    Raises:
        UserError: an override would change what the trials are.
    """
    table = before.as_dict()
    earlier = {k: v for e in journal.read() if e["event"] == "limits" for k, v in e.items()}
    after = parse_config(table, {k: v for k, v in earlier.items() if k in LIMITS} | {**overrides})
    changed = _difference(table, after.as_dict())
    forbidden = {key: values for key, values in changed.items() if key not in MAY_CHANGE}
    if forbidden:
        told = "; ".join(f"{key} was {was!r}, now {now!r}" for key, (was, now) in forbidden.items())
        raise UserError(
            f"a search goes on as it was begun ({told}); only --max-trials, --max-minutes, "
            "--trial-timeout and --retries may change. Leave the flags out, or begin a new search."
        )
    return after


def note_limits(journal: Journal, before: SearchConfig, after: SearchConfig) -> None:
    """Note changed limits down, for the next time that the search goes on."""
    if after.tuner != before.tuner:
        limits = {key: getattr(after.tuner, key.partition(".")[2]) for key in LIMITS}
        journal.append({"event": "limits", **limits})


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


@dataclass
class Agreement:
    """What a search goes on from.

    Args:
        events: the journal's.
        trained: what has ended in MLflow, but not in the journal.
        lost: trials that have ended, but whose results are not in MLflow any more.
        deleted: those that somebody has deleted there.
    """

    events: list[Event]
    trained: dict[str, Trial] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def notices(self) -> Iterator[str]:
        """What the user ought to know of it."""
        if self.lost:
            yield (
                f"MLflow has lost {_trials(self.lost)}, which had finished (was the store put back "
                "from a backup?): trained again, under the old numbers."
            )
        if self.deleted:
            yield (
                f"deleted in MLflow, and left so: {_trials(self.deleted)}; what they scored still "
                "guides the search. mlflow runs restore --run-id ID brings one back."
            )


def _trials(trial_ids: list[str]) -> str:
    numbers = ", ".join(trial_ids[:10]) + (", ..." if trial_ids[10:] else "")
    return f"trial{'s' if trial_ids[1:] else ''} {numbers}"


def reconcile(
    client: MlflowClient, search: Search, journal: Journal, retries: int = 0
) -> Agreement:
    """Compare the journal with MLflow, and leave no trial's run RUNNING.

    A trial that a worker has finished but that the driver did not live to note down is told to
    the sampler, not trained again. One that has failed is, if it has not had all its ``retries``:
    that is noted down here. One that the journal has and MLflow has lost is trained again,
    because all reports are made from MLflow; the sampler keeps the score that it was told.
    """
    agreed = Agreement(journal.read())
    ended = {e["trial_id"]: e for e in agreed.events if e["event"] == "ended"}
    noted = {e["run_id"] for e in agreed.events if e["event"] in ("ended", "failed", "lost")}
    failures = Counter(e["trial_id"] for e in agreed.events if e["event"] == "failed")
    finished = set()
    trials = reader.read_trials(client, search)
    for trial in sorted(trials, key=lambda trial: (trial.ended_ms or 0, trial.trial_id)):
        if trial.status in writer.OPEN:
            writer.Run(client, trial.run_id).end("KILLED", CRASHED)
        elif trial.status == "FINISHED" and trial.score is not None:
            finished.add(trial.trial_id)
        if trial.trial_id in ended or trial.key in noted:
            continue
        if trial.status == "FAILED" and failures[trial.trial_id] < retries:
            failures[trial.trial_id] += 1
            facts = {"trial_id": trial.trial_id, "run_id": trial.key, "reason": trial.reason}
            agreed.events.append({"event": "failed", **facts})
            journal.append(agreed.events[-1])
        elif trial.status in ("FINISHED", "FAILED"):
            agreed.trained[trial.trial_id] = trial
    gone = {
        trial_id: event["run_id"]
        for trial_id, event in ended.items()
        if event["score"] is not None and trial_id not in finished
    }
    deleted = reader.deleted_keys(client, search) if gone else set()
    for trial_id, key in gone.items():
        (agreed.deleted if key in deleted else agreed.lost).append(trial_id)
    return agreed
