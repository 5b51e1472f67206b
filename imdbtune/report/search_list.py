"""The searches of a tracking store, each in a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imdbtune.tracking import reader
from imdbtune.tracking.entities import ENDED_WELL, Search, Trial
from imdbtune.tracking.ranking import rank_trials
from imdbtune.tracking.sqlite_reader import open_runs


@dataclass(frozen=True)
class SearchSummary:
    """A search with the number of its trials and its best score."""

    search: Search
    trials: int  # attempts at the same trial count once
    finished: int
    best: float | None

    @property
    def started(self) -> str:
        """When it began, in UTC: ``2026-01-31T12:00:00Z``."""
        moment = datetime.fromtimestamp(self.search.started_ms / 1000, tz=UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%SZ}"

    def as_dict(self) -> dict[str, object]:
        """Return the row for JSON."""
        return {
            "name": self.search.name,
            "run_id": self.search.run_id,
            "status": self.search.status,
            "trials": self.trials,
            "finished": self.finished,
            "objective": self.search.objective,
            "best": self.best,
            "started": self.started,
        }


def list_searches(*, uri: str = "") -> list[SearchSummary]:
    """Return the searches of a store with the number of their trials, the newest first."""
    runs = open_runs(uri)
    return summarize_searches(reader.read_searches(runs), reader.read_all_trials(runs))


def summarize_searches(
    searches: Iterable[Search], trials: Mapping[str, Sequence[Trial]]
) -> list[SearchSummary]:
    """Return a summary of each search; ``trials``: by the run id of their search."""
    return [_summary(search, trials.get(search.run_id, ())) for search in searches]


def _summary(search: Search, trials: Sequence[Trial]) -> SearchSummary:
    ranked = rank_trials(search, trials)
    finished = [trial for trial in ranked if trial.state in ENDED_WELL]
    return SearchSummary(
        search,
        trials=len({trial.trial_id for trial in trials}),
        finished=len(finished),
        best=ranked[0].score if ranked and ranked[0].can_win else None,
    )
