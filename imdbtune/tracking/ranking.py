"""The order of a search's trials: which one is the winner, and which are on the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from imdbtune.config.objectives import error_name, logged_name, pareto_front, statistic_of
from imdbtune.models.metrics.accuracy import MARGIN, standard_error
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Search, Trial, as_row

Z_ONE_SIDED = NormalDist().inv_cdf(0.95)


def rank(trials: list[Trial], larger_is_better: bool) -> list[Trial]:
    """Return trials with a result from best to worst, ties in order of start; then all others.

    Trials that are discarded or miss the condition of the search come after those that can win.
    """
    sign = -1.0 if larger_is_better else 1.0

    def position(trial: Trial) -> tuple[bool, bool, float, int, str]:
        place = sign * (trial.score or 0.0), trial.started_ms, trial.trial_id
        return (not trial.can_win, not trial.has_result, *place)

    return sorted(trials, key=position)


def failed_trials(trials: list[Trial]) -> list[Trial]:
    """Return the trials that failed in their last attempt."""
    last: dict[str, int] = {}
    for trial in trials:
        last[trial.trial_id] = max(trial.attempt, last.get(trial.trial_id, 0))
    return [t for t in trials if t.status == "FAILED" and t.attempt == last[t.trial_id]]


def count_states(trials: list[Trial]) -> dict[str, int]:
    """Return the number of trials with each status, as tables show it."""
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.shown_status] = counts.get(trial.shown_status, 0) + 1
    return counts


@dataclass(frozen=True)
class Front:
    """The Pareto front of a search with several objectives.

    Args:
        objectives: the main one first.
        trials: those on the front, the best by the main objective first.
        winner: the trial that is chosen of them.
        reviews: on which each was validated.
    """

    objectives: tuple[str, ...]
    trials: tuple[Trial, ...]
    winner: Trial
    reviews: int

    @property
    def reason(self) -> str:
        """Why the winner was chosen, in a line."""
        count = len(self.trials)
        front = f"the front of {' and '.join(self.objectives)}"
        if self.winner is not self.trials[0]:
            return (
                f"the cheapest of {count} trials on {front} that is shown to be at most "
                f"{self._worse} than the best of them, "
                f"{self.trials[0].name}"
            )
        if count == 1:
            return f"the only trial on {front}"
        return (
            f"the best of {count} trials on {front}; none of the cheaper ones is shown on "
            f"{self.reviews:,} reviews to be at most {self._worse}"
        )

    @property
    def _worse(self) -> str:
        """How much worse a trial may be that is chosen for its cost."""
        name = statistic_of(self.objectives[0])
        if name == "accuracy":
            return f"{MARGIN * 100:g} points less accurate"
        return f"{MARGIN:g} worse in {name}"


def find_front(search: Search, trials: Sequence[Trial]) -> Front | None:
    """Return the Pareto front; ``None`` with one objective, or if no trial can win.

    The winner is the cheapest trial of the front (the best by the second objective, then by the
    third) among the best one and those shown to be at most ``MARGIN`` less accurate.
    """
    objectives = search.objectives
    if len(objectives) == 1:
        return None
    measured = [(trial, trial.measured) for trial in trials if trial.can_win]
    complete = [(t, [m[o] for o in objectives]) for t, m in measured if m.keys() >= {*objectives}]
    if not complete:
        return None
    maximised = [search.is_maximised(name) for name in objectives]
    front = [complete[i] for i in pareto_front([values for _, values in complete], maximised)]
    values_of = {trial.run_id: values for trial, values in front}
    ranked = rank([trial for trial, _ in front], search.larger_is_better)
    candidates = [ranked[0], *(t for t in ranked[1:] if _is_as_good(t, ranked[0], search))]

    def cost(trial: Trial) -> list[float]:
        further = zip(objectives[1:], values_of[trial.run_id][1:], strict=True)
        return [-value if search.is_maximised(name) else value for name, value in further]

    return Front(objectives, tuple(ranked), min(candidates, key=cost), search.validation_reviews)


def _is_as_good(trial: Trial, best: Trial, search: Search) -> bool:
    """Return whether the upper limit of the difference in the main objective is at most ``MARGIN``.

    Trials that were chosen by their loss are compared by their accuracy. Conservative, as if the
    trials had been validated on different reviews.
    """
    name, reviews = f"val_{statistic_of(search.objective)}", search.validation_reviews
    values = [each.measured.get(name, math.nan) for each in (best, trial)]
    if name != "val_accuracy":
        errors = [each.measured.get(error_name(name), math.nan) for each in (best, trial)]
        worse = values[0] - values[1] if search.larger_is_better else values[1] - values[0]
        return worse + Z_ONE_SIDED * math.hypot(*errors) <= MARGIN
    if not reviews or not all(0 <= value <= 1 for value in values):
        return False
    # The estimated error of an accuracy of 1 would be 0: reckon with one wrong answer at least.
    inside = [min(max(value, 1 / reviews), 1 - 1 / reviews) for value in values]
    errors = [standard_error(value, reviews) for value in inside]
    return values[0] - values[1] + Z_ONE_SIDED * math.hypot(*errors) <= MARGIN


def rank_trials(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials of a search by their score, but the winner first."""
    ranked = rank(list(trials), search.larger_is_better)
    front = find_front(search, ranked)
    return sorted(ranked, key=lambda trial: front is None or trial is not front.winner)


def as_rows(search: Search, trials: Sequence[Trial]) -> list[dict[str, object]]:
    """Return trials as flat rows; with several objectives, also whether each is on the front.

    Args:
        trials: all of the search.
    """
    rows = [as_row(trial) for trial in trials]
    if len(search.objectives) > 1:
        front = find_front(search, trials)
        on_front = {trial.run_id for trial in front.trials} if front else set()
        rows = [{**row, "front": row["run_id"] in on_front} for row in rows]
    return rows


def outcome_columns(search: Search) -> list[str]:
    """Return the columns of :func:`as_rows` with the objectives, and with the front if any.

    After a cross-validation, the standard error over folds is among them.
    """
    main, *further = (logged_name(name) for name in search.objectives)
    has_folds = mlflow_names.folds_of(search.tags)
    error = [mlflow_names.folds_error_name(search.objective)] if has_folds else []
    return [main, *error, *further, *(["front"] if further else [])]
