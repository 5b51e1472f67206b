"""Compare the confirmed winners of two searches: is the new one worse than the old one?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imdbtune.config.objectives import statistic_of
from imdbtune.confirm import results
from imdbtune.confirm.entities import Confirmed
from imdbtune.errors import UserError
from imdbtune.report.comparison import check_comparable
from imdbtune.tracking import reader
from imdbtune.tracking.entities import Search
from imdbtune.tracking.predictions import read_gains
from imdbtune.tracking.sqlite_reader import open_runs

if TYPE_CHECKING:
    from imdbtune.confirm.significance import Change, Repeats
    from imdbtune.tracking.sqlite_reader import Runs

MIN_SEEDS = 2  # with one, how much a seed matters is unknown


@dataclass(frozen=True)
class Winner:
    """The recommended configuration of a search that was confirmed."""

    search: Search
    row: Confirmed
    accuracies: tuple[float, ...]  # on the validation reviews, of each training

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "search": self.search.name,
            "search_id": self.search.run_id,
            "name": self.row.name,
            "run_ids": list(self.row.run_ids),
            "mean": self.mean,
            "accuracies": list(self.accuracies),
        }


@dataclass(frozen=True)
class ConfirmedChange:
    """The confirmed winner of a new search against that of an old one."""

    old: Winner
    new: Winner
    change: Change
    reviews: int

    @property
    def is_worse(self) -> bool:
        """Whether the new winner is significantly worse."""
        return self.change.is_worse

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if self.change.is_worse:
            return "significantly worse"
        return "significantly better" if self.change.is_better else "not significantly worse"

    @property
    def interval(self) -> str:
        """The difference with its 95 % interval, in points."""
        center, half = self.change.difference * 100, self.change.half_width * 100
        return f"{center:+.2f} points, 95 % interval {center - half:+.2f} to {center + half:+.2f}"

    def __str__(self) -> str:
        """Return the result in a sentence."""
        return (
            f"{self.new.row.name} of search {self.new.search.name} is {self.verdict} than "
            f"{self.old.row.name} of search {self.old.search.name}: {self.interval}"
        )

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        center, half = self.change.difference, self.change.half_width
        return {
            "old": self.old.as_dict(),
            "new": self.new.as_dict(),
            "reviews": self.reviews,
            "difference": center,
            "interval": [center - half, center + half],
            "verdict": self.verdict,
            "is_worse": self.is_worse,
        }


def compare_confirmed(old_ref: str, new_ref: str, *, uri: str = "") -> ConfirmedChange:
    """Compare the confirmed winners of two searches over the same validation reviews.

    Both are means over the seeds of ``imdbtune confirm``. The interval covers other seeds and other
    reviews; because both models classified the same reviews, only those on which they differ count.

    Args:
        old_ref: name or run id of the search that the new one must not be worse than.
        new_ref: name or run id of the new search.
        uri: the tracking store.

    Raises:
        UserError: there is no such search, it is not confirmed with at least two seeds, or the
            searches have other reviews.
    """
    from imdbtune.confirm.significance import change_between

    runs = open_runs(uri)
    searches = [reader.find_search(runs, ref) for ref in (old_ref, new_ref)]
    if searches[0].run_id == searches[1].run_id:
        raise UserError(f"{old_ref!r} and {new_ref!r} are the same search; give two searches.")
    check_comparable(searches)
    metrics = [statistic_of(search.objective) for search in searches]
    if metrics[0] != metrics[1]:
        raise UserError(
            f"searches {old_ref!r} and {new_ref!r} were confirmed by {metrics[0]} and "
            f"{metrics[1]}, which cannot be compared; give two searches with the same objective."
        )
    (old, old_repeats), (new, new_repeats) = (_read_winner(runs, search) for search in searches)
    reviews = old_repeats.values.shape[1]
    if new_repeats.values.shape[1] != reviews:
        raise UserError(
            f"the confirmations of searches {old.search.name!r} and {new.search.name!r} are of "
            f"{reviews:,} and {new_repeats.values.shape[1]:,} reviews, and cannot be compared."
        )
    return ConfirmedChange(old, new, change_between(old_repeats, new_repeats), reviews)


def _read_winner(runs: Runs, search: Search) -> tuple[Winner, Repeats]:
    """Return the winner of a confirmed search, and which reviews its trainings classified right."""
    import numpy as np

    from imdbtune.confirm.significance import Repeats

    confirmed = results.read(runs, search)
    count = len(confirmed.winner.run_ids) if confirmed else 0
    if confirmed is None or count < MIN_SEEDS:
        state = f"confirmed with {count} seed" if count else "not confirmed"
        raise UserError(
            f"search {search.name!r} is {state}; run imdbtune confirm {search.run_id} --seeds 5."
        )
    row = confirmed.winner
    gains = np.stack([read_gains(runs, run_id, search) for run_id in row.run_ids])
    repeats = Repeats(row.name, gains, row.seconds)
    accuracies = tuple(float(value) for value in repeats.means)
    return Winner(search, row, accuracies), repeats
