"""The decisions of a search's pruner, with their journal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from imdbtune.cluster.trial_job import EpochEnded
from imdbtune.config.objectives import FOLDS_MEAN
from imdbtune.config.schema import SearchConfig
from imdbtune.search.journal import Event, Journal, epoch_event
from imdbtune.search.pruner import Pruner, pruner_kind


@dataclass
class Pruning:
    """Decides after each epoch whether its trial goes on; does nothing without a pruner.

    Each decision is journaled before its worker hears of it. A trial that is run again after a
    crash reports the same epochs, and gets the decisions of then: meanwhile the pruner may know
    more of other trials.

    Only the first execution of a trial is judged. A trial that is pruned has no further ones. In a
    cross-validation the pruner sees a fold as an epoch, with the mean over the folds so far.

    Args:
        pruner: ``None``: no trial is pruned.
        journal: of the search.
        objective: name of the metric that is judged.
        sign: -1 where a smaller objective is better.
        steps: the last epoch, or fold, after which a trial ends anyway.
        by_fold: whether folds are judged.
    """

    pruner: Pruner | None
    journal: Journal
    objective: str
    sign: float
    steps: int
    by_fold: bool = False
    # By trial and epoch, or fold.
    _decided: dict[str, dict[int, bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: SearchConfig, journal: Journal) -> Pruning:
        """Return the pruning of a new search."""
        kind, tuner = pruner_kind(config), config.tuner
        sign = 1.0 if config.larger_is_better else -1.0
        pruner = kind.make() if kind else None
        if tuner.folds:
            return cls(pruner, journal, FOLDS_MEAN, sign, tuner.folds, by_fold=True)
        return cls(pruner, journal, tuner.main_objective, sign, config.training.epochs)

    def decide(self, event: EpochEnded) -> bool:
        """Return whether a trial is to be pruned after this epoch."""
        value = event.metrics.get(self.objective, math.nan)
        is_judged = self.by_fold or event.execution == 0
        if self.pruner is None or not is_judged or not math.isfinite(value):
            return False
        trial_id = event.trial_id
        epoch = event.execution + 1 if self.by_fold else int(event.metrics["epoch"])
        decided = self._decided.setdefault(trial_id, {})
        if epoch in decided:
            return decided[epoch]
        if any(decided.values()):  # the worker did not hear of it in time
            return True
        prune = self._report(trial_id, epoch, value)
        self.journal.append(epoch_event(trial_id, epoch, value, prune))
        return prune

    def _report(self, trial_id: str, epoch: int, value: float) -> bool:
        assert self.pruner is not None
        prune = self.pruner.report(trial_id, epoch, self.sign * value) and epoch < self.steps
        self._decided.setdefault(trial_id, {})[epoch] = prune
        return prune

    def restore(self, events: Iterable[Event]) -> None:
        """Repeat the reports of a journal; its decisions stay as they are."""
        for event in events:
            kind, trial_id = event["event"], event.get("trial_id", "")
            if kind == "epoch" and self.pruner is not None:
                self._report(trial_id, event["epoch"], event["value"])
                self._decided[trial_id][event["epoch"]] = event["prune"]
            elif kind == "ended":
                self.end(trial_id, event.get("score"), event.get("reason", ""))
            elif kind == "failed":
                self.forget(trial_id)

    def end(self, trial_id: str, score: float | None, reason: str) -> None:
        """Note the end of a trial; a score with a reason is that of a pruned one."""
        if score is None:
            self.forget(trial_id)
        elif not reason and self.pruner is not None:
            self.pruner.complete(trial_id)

    def forget(self, trial_id: str) -> None:
        """Forget an attempt that has failed: the next one has another seed."""
        self._decided.pop(trial_id, None)
        if self.pruner is not None:
            self.pruner.forget(trial_id)
