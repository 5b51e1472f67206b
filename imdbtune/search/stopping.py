"""When a search starts no further trial, although its sampler has more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imdbtune.config.extensions import METRICS
from imdbtune.config.schema import SearchConfig
from imdbtune.search.deadline import Deadline


@dataclass
class StoppingRules:
    """The limits of ``[tuner]`` besides the number of trials.

    Args:
        clock: monotonic, in seconds.
        validation_reviews: on which each trial is measured.
        deadline: of the command; ``None``: it has none.
    """

    config: SearchConfig
    clock: Callable[[], float]
    validation_reviews: int
    deadline: Deadline | None = None
    _end: float | None = None  # by the clock

    def reason(self, scores: Sequence[float], errors: Sequence[float] = ()) -> str | None:
        """Return why no trial may start any more; ``None``: one may.

        The time starts with the first call.

        Args:
            scores: of the trials that have ended, in that order.
            errors: their standard errors, where the metric has no formula for them.
        """
        tuner = self.config.tuner
        minutes, trials = tuner.max_minutes, tuner.until_flat
        if self._end is None:
            self._end = self.clock() + minutes * 60
        if minutes and self.clock() >= self._end:
            return f"the {minutes:g} minutes of --max-minutes are over"
        if self.deadline is not None and not self.deadline.allows_trial():
            return "the deadline is too near for an epoch of another trial"
        if trials and self._is_flat(scores, errors):
            return f"the last {trials} trials have not improved the best by a standard error"
        return None

    def ends_trial(self, epoch: Mapping[str, float]) -> bool:
        """Return whether a trial has to end with this epoch, and note how long it took."""
        if self.deadline is None:
            return False
        self.deadline.note_epoch(epoch["seconds"])
        return not self.deadline.allows_epoch(epoch["seconds"])

    def _is_flat(self, scores: Sequence[float], errors: Sequence[float]) -> bool:
        """Return whether the last trials have raised the best by at most one standard error."""
        before = scores[: -self.config.tuner.until_flat]
        if not before:
            return False
        name = self.config.tuner.main_objective.removeprefix("val_")
        best, sign = (max, 1.0) if self.config.larger_is_better else (min, -1.0)
        formula = METRICS[name].standard_error if name in METRICS else None
        if formula is not None:
            error = formula(best(before), self.validation_reviews)
        else:
            error = dict(zip(before, errors, strict=False)).get(best(before), 0.0)
        return sign * (best(scores) - best(before)) <= error
