"""The events of a search on disk, in order: enough to rebuild its sampler after a crash.

One JSON object a line, each written and synced before anything depends on it. Samplers are
deterministic: a new one that repeats the same answers and is told the same results is in the same
state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imdbtune.files import append_line, read_lines
from imdbtune.search.sampler import Borrowed, Idle, Past, Suggestion, Told

Event = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """The events of one search in an append-only file."""

    path: Path

    def append(self, event: Event) -> None:
        """Write one event through to the disk; some with the next one.

        ``asked`` is followed by ``started``, and ``epoch`` by the end of its trial; without that,
        the trial is run again.
        """
        append_line(self.path, event, sync=event.get("event") not in ("asked", "epoch"))

    def read(self) -> list[Event]:
        """Return all events; a last line that a crash has cut or emptied is skipped.

        Raises:
            SearchAborted: a line before the last cannot be read.
        """
        return [event for event, _ in read_lines(self.path, strict=True)]


def asked_event(suggestion: Suggestion) -> Event:
    """Return the event of a suggested trial."""
    event: Event = {
        "event": "asked",
        "trial_id": suggestion.trial_id,
        "values": suggestion.values,
        "seed_state": suggestion.state,
    }
    for name in ("epochs", "initial_epoch", "continues"):
        if value := getattr(suggestion, name):
            event[name] = value
    return event


def borrowed_event(trials: Iterable[Borrowed]) -> Event:
    """Return the event of the trials of other searches, before the first of this one."""
    return {"event": "borrowed", "trials": [asdict(trial) for trial in trials]}


def ended_event(run_id: str, told: Told) -> Event:
    """Return the event of a trial that has ended."""
    return {
        "event": "ended",
        "trial_id": told.trial_id,
        "run_id": run_id,
        "score": told.score,
        "reason": told.reason,
        "measured": dict(told.measured),
    }


def idle_event(answer: Idle) -> Event:
    """Return the event of an answer that changed the sampler without a trial."""
    return {"event": "idle", "seed_state": answer.state}


def epoch_event(trial_id: str, epoch: int, value: float, prune: bool) -> Event:
    """Return the event of an epoch that the pruner has judged."""
    return {"event": "epoch", "trial_id": trial_id, "epoch": epoch, "value": value, "prune": prune}


def suggestion_of(event: Event) -> Suggestion:
    """Return the suggestion that :func:`asked_event` has recorded."""
    return Suggestion(
        event["trial_id"],
        event["values"],
        event["seed_state"],
        event.get("epochs"),
        event.get("initial_epoch", 0),
        event.get("continues", ""),
    )


def history(events: Iterable[Event]) -> Iterator[Past]:
    """Yield the events that concern the sampler.

    It knows no attempts and no epochs: ``started``, ``epoch``, ``failed``, ``lost`` are skipped.
    """
    for event in events:
        if event["event"] == "asked":
            yield suggestion_of(event)
        elif event["event"] == "borrowed":
            for each in event["trials"]:
                run_ids, measured = tuple(each["run_ids"]), each.get("measured", {})
                yield Borrowed(each["values"], each["score"], run_ids, measured)
        elif event["event"] == "idle":
            yield Idle(event["seed_state"], has_changed=True)
        elif event["event"] == "ended":
            yield Told(
                event["trial_id"],
                event.get("score"),
                event.get("reason", ""),
                event.get("measured", {}),
            )


def open_trials(events: Iterable[Event]) -> list[Suggestion]:
    """Return the trials that were suggested and have not ended, in order."""
    found: dict[str, Suggestion] = {}
    for event in events:
        if event["event"] == "asked":
            found[event["trial_id"]] = suggestion_of(event)
        elif event["event"] == "ended":
            found.pop(event["trial_id"], None)
    return list(found.values())
