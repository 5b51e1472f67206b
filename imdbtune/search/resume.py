"""Reconcile the journal of a search with MLflow before the search is resumed."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imdbtune.config.schema import SearchConfig, parse_config
from imdbtune.errors import UserError
from imdbtune.search.journal import Event, Journal
from imdbtune.search.parent_run import folder_tag
from imdbtune.search.workspace import Workspace
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.entities import Search, Trial

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.outbox import Outbox

LIMITS = (
    "tuner.max_trials",
    "tuner.max_minutes",
    "tuner.until_flat",
    "tuner.trial_timeout",
    "tuner.retries",
)
MAY_CHANGE = (
    *LIMITS,
    "tracking.uri",
    "tracking.report",
    "tracking.baseline",
    "tracking.system_metrics",
    "cluster.address",
)
OF_SOURCES = ("model.build", "training.metrics")  # checked by imdbtune.search.same_sources
CONFIG = "config.toml"  # artifact of the search's run
CRASHED = "the driver process died"  # reason of the runs that are closed later


def stored_config(
    client: MlflowClient, search: Search, outbox: Outbox | None = None
) -> SearchConfig:
    """Return the configuration with which a search was started, from its run in MLflow.

    Args:
        outbox: has it too, if MLflow has lost its files.

    Raises:
        UserError: it cannot be read.
    """
    try:
        text = outbox.logged_text(search.run_id, CONFIG) if outbox is not None else ""
        text = text or reader.read_artifact(client, search.run_id, CONFIG).decode("utf-8")
        return parse_config(tomllib.loads(text))
    except (ValueError, UserError) as error:
        raise UserError(
            f"the configuration of search {search.name!r} cannot be read: {error}"
        ) from error


def changed_config(
    before: SearchConfig, journal: Journal, overrides: Mapping[str, object]
) -> SearchConfig:
    """Return the configuration of a resumed search.

    Args:
        before: the configuration with which the search was started.
        journal: may contain limits that were changed when the search was resumed earlier.
        overrides: values by key, such as ``tuner.max_trials``; they take precedence.

    Raises:
        UserError: an override would change the trials.
    """
    table = before.as_dict()
    earlier = {k: v for e in journal.read() if e["event"] == "limits" for k, v in e.items()}
    given = {key: value for key, value in overrides.items() if key not in OF_SOURCES}
    after = parse_config(table, {k: v for k, v in earlier.items() if k in LIMITS} | given)
    changed = _difference(table, after.as_dict())
    forbidden = {key: values for key, values in changed.items() if key not in MAY_CHANGE}
    if forbidden:
        changes = "; ".join(f"{k} was {old!r}, now {new!r}" for k, (old, new) in forbidden.items())
        raise UserError(
            f"a search is resumed with its own configuration ({changes}); only --max-trials, "
            "--max-minutes, --until-flat, --trial-timeout and --retries may change. Leave the "
            "other flags out, or start a new search; with --tuner tpe --learn-from "
            f"{before.name} it knows the trials of this one."
        )
    return after


def journal_limits(journal: Journal, before: SearchConfig, after: SearchConfig) -> None:
    """Write changed limits to the journal, so that they hold when the search is resumed again."""
    if after.tuner != before.tuner:
        limits = {key: getattr(after.tuner, key.partition(".")[2]) for key in LIMITS}
        journal.append({"event": "limits", **limits})


def _difference(
    before: Mapping[str, object], after: Mapping[str, object]
) -> dict[str, tuple[object, object]]:
    """Return the old and new values that differ, by ``section`` or ``section.key``."""
    changed: dict[str, tuple[object, object]] = {}
    for section in sorted(before.keys() | after.keys()):
        old, new = before.get(section), after.get(section)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key):
                    changed[f"{section}.{key}"] = (old.get(key), new.get(key))
        elif old != new:
            changed[section] = (old, new)
    return changed


@dataclass
class Agreement:
    """The state of a search on which journal and MLflow agree.

    Args:
        events: of the journal.
        unjournaled: trials that have ended according to MLflow only, by id.
        lost: ids of trials that have ended but whose results MLflow has lost.
        deleted: ids of trials that have ended but whose runs were deleted in MLflow.
        discarded: ids of trials that are not to be chosen; their scores still guide the search.
    """

    events: list[Event]
    unjournaled: dict[str, Trial] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    discarded: frozenset[str] = frozenset()

    @property
    def has_begun(self) -> bool:
        """Whether the sampler knows anything."""
        return any(event["event"] in ("borrowed", "asked") for event in self.events)

    def notices(self) -> Iterator[str]:
        """Yield a message about lost and one about deleted trials, if there are any."""
        if self.lost:
            yield (
                f"MLflow has lost {_list_trials(self.lost)}, which had finished (was the store "
                "restored from a backup?): trained again, under the old numbers."
            )
        if self.deleted:
            yield (
                f"deleted in MLflow, and left so: {_list_trials(self.deleted)}; their scores still "
                "guide the search. mlflow runs restore --run-id ID restores one."
            )


def _list_trials(trial_ids: list[str]) -> str:
    numbers = ", ".join(trial_ids[:10]) + (", ..." if trial_ids[10:] else "")
    return f"trial{'s' if trial_ids[1:] else ''} {numbers}"


def reconcile(
    client: MlflowClient, search: Search, journal: Journal, retries: int = 0
) -> Agreement:
    """Compare the journal with MLflow, and close the runs of trials that are still open.

    A trial that finished but was not journaled before the crash is reported to the sampler, not
    trained again. A failed attempt is journaled here, and repeated if ``retries`` allow it. A
    finished trial whose result MLflow has lost is trained again, because all reports are based on
    MLflow; the sampler keeps the score that was reported to it.

    Args:
        retries: how often a failed trial is repeated.
    """
    agreed = Agreement(journal.read())
    ended = {e["trial_id"]: e for e in agreed.events if e["event"] == "ended"}
    journaled = {e["run_id"] for e in agreed.events if e["event"] in ("ended", "failed", "lost")}
    failures = Counter(e["trial_id"] for e in agreed.events if e["event"] == "failed")
    finished = set()
    trials = reader.read_trials(client, search)
    agreed.discarded = frozenset(trial.trial_id for trial in trials if trial.is_discarded)
    for trial in sorted(trials, key=lambda trial: (trial.ended_ms or 0, trial.trial_id)):
        if trial.status in mlflow_names.OPEN:
            writer.Run(client, trial.run_id).end("KILLED", CRASHED)
        elif trial.has_result:
            finished.add(trial.trial_id)
        if trial.trial_id in ended or trial.key in journaled:
            continue
        if trial.status == "FAILED" and failures[trial.trial_id] < retries:
            failures[trial.trial_id] += 1
            facts = {"trial_id": trial.trial_id, "run_id": trial.key, "reason": trial.reason}
            agreed.events.append({"event": "failed", **facts})
            journal.append(agreed.events[-1])
        elif trial.has_result or trial.status in ("FINISHED", "FAILED"):
            agreed.unjournaled[trial.trial_id] = trial
    missing = {
        trial_id: event["run_id"]
        for trial_id, event in ended.items()
        if event["score"] is not None and trial_id not in finished
    }
    deleted = reader.deleted_keys(client, search) if missing else set()
    for trial_id, key in missing.items():
        (agreed.deleted if key in deleted else agreed.lost).append(trial_id)
    return agreed


def check_journal_exists(client: MlflowClient, found: Search, workspace: Workspace) -> None:
    """Raise UserError if the search was started elsewhere, or its journal is missing."""
    if workspace.journal.path.exists():
        return
    if workspace.folder.exists() and not reader.read_trials(client, found):
        return
    place, here = found.tags.get(mlflow_names.FOLDER, ""), folder_tag(workspace.folder.parent)
    where = "the folder where it was started" if place in ("", here) else place
    raise UserError(
        f"search {found.name!r} cannot be resumed here: its journal "
        f"{workspace.journal.path} is missing; "
        f"run this command in {where}, or start a new search."
    )
