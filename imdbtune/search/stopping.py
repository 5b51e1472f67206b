"""When a search starts no further trial, although its sampler has more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imdbtune.config.extensions import objective_metric
from imdbtune.config.schema import TunerConfig
from imdbtune.search.deadline import Deadline


@dataclass
class StoppingRules:
    """The limits of ``[tuner]`` besides the number of trials.

    Args:
        clock: monotonic, in seconds.
        validation_reviews: on which each trial is measured.
        deadline: of the command; ``None``: it has none.
    """

    tuner: TunerConfig
    clock: Callable[[], float]
    validation_reviews: int
    deadline: Deadline | None = None
    _end: float | None = None  # by the clock

    def reason(self, scores: Sequence[float]) -> str | None:
        """Return why no trial may start any more; ``None``: one may.

        The time starts with the first call.

        Args:
            scores: of the trials that have ended, in that order.
        """
        minutes, trials = self.tuner.max_minutes, self.tuner.until_flat
        if self._end is None:
            self._end = self.clock() + minutes * 60
        if minutes and self.clock() >= self._end:
            return f"the {minutes:g} minutes of --max-minutes are over"
        if self.deadline is not None and not self.deadline.allows_trial():
            return "the deadline is too near for an epoch of another trial"
        if trials and self._is_flat(scores):
            return f"the last {trials} trials have not improved the best by a standard error"
        return None

    def ends_trial(self, epoch: Mapping[str, float]) -> bool:
        """Return whether a trial has to end with this epoch, and note how long it took."""
        if self.deadline is None:
            return False
        self.deadline.note_epoch(epoch["seconds"])
        return not self.deadline.allows_epoch(epoch["seconds"])

    def _is_flat(self, scores: Sequence[float]) -> bool:
        """Return whether the last trials have raised the best by at most one standard error."""
        before = scores[: -self.tuner.until_flat]
        if not before:
            return False
        metric = objective_metric(self.tuner.main_objective)
        best, sign = (max, 1.0) if metric.larger_is_better else (min, -1.0)
        error = metric.standard_error(best(before), self.validation_reviews)
        return sign * (best(scores) - best(before)) <= error
