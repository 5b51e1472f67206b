"""The events of a search on disk, in order: enough to rebuild its sampler after a crash.

One JSON object a line, each written and synced before anything depends on it. Samplers are
deterministic: a new one that repeats the same suggestions and is told the same results is in the
same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.files import append_line, read_lines

if TYPE_CHECKING:
    from imdbtune.search.keras_tuner_samplers import Sampler

Event = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """The events of one search in an append-only file."""

    path: Path

    def append(self, event: Event) -> None:
        """Write one event through to the disk; ``asked`` with ``started``, which follows it."""
        append_line(self.path, event, sync=event.get("event") != "asked")

    def read(self) -> list[Event]:
        """Return all events; a last line that a crash has cut or emptied is skipped.

        Raises:
            SearchAborted: a line before the last cannot be read.
        """
        return [event for event, _ in read_lines(self.path, strict=True)]


def replay(sampler: Sampler, events: list[Event]) -> list[Event]:
    """Bring a new sampler to the state of the journal; return the trials that have not ended.

    A sampler knows no attempts: ``started``, ``failed`` and ``lost`` are skipped.

    Raises:
        SearchAborted: the sampler suggests other values: another version, or configuration.
    """
    open_trials: dict[str, Event] = {}
    for event in events:
        if event["event"] in ("asked", "idle"):
            sampler.repeat(event)
        if event["event"] == "asked":
            open_trials[event["trial_id"]] = event
        elif event["event"] == "ended":
            sampler.tell(event["trial_id"], event.get("score"), event.get("reason", ""))
            open_trials.pop(event["trial_id"], None)
    return list(open_trials.values())
