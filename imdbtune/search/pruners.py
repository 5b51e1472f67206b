"""The pruners: the median stopping rule, and asynchronous successive halving.

Both decide like the pruners of Optuna 5 (``MedianPruner``, ``SuccessiveHalvingPruner``), which the
tests compare them with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from imdbtune.search.pruner import PrunerKind

STARTUP_TRIALS = 5
WARMUP_EPOCHS = 1
REDUCTION_FACTOR = 3


@dataclass
class MedianPruner:
    """Prune a trial whose best value is below the median of the completed trials at its epoch.

    The median stopping rule of Golovin et al., "Google Vizier" (KDD 2017), section 3.2.2. As in
    Optuna, it compares with the values of the same epoch; the paper averages them up to there.

    Args:
        startup_trials: number of completed trials before any is pruned.
        warmup_epochs: number of epochs of each trial that are not judged.
    """

    startup_trials: int = STARTUP_TRIALS
    warmup_epochs: int = WARMUP_EPOCHS
    values: dict[str, dict[int, float]] = field(default_factory=dict)  # by trial and epoch
    completed: set[str] = field(default_factory=set)

    def report(self, trial_id: str, epoch: int, value: float) -> bool:
        """Compare the best value so far with the median at this epoch."""
        own = self.values.setdefault(trial_id, {})
        own[epoch] = value
        if epoch <= self.warmup_epochs or len(self.completed) < self.startup_trials:
            return False
        others = [self.values[trial].get(epoch) for trial in self.completed]
        known = [other for other in others if other is not None]
        return bool(known) and max(own.values()) < median(known)

    def complete(self, trial_id: str) -> None:
        """Let later trials be compared with this one."""
        if trial_id in self.values:
            self.completed.add(trial_id)

    def forget(self, trial_id: str) -> None:
        """Remove the values of the trial."""
        self.values.pop(trial_id, None)
        self.completed.discard(trial_id)


@dataclass
class HalvingPruner:
    """Let one in ``factor`` of the trials go on at epochs 1, ``factor``, its square, ...

    Asynchronous successive halving (ASHA) of Li et al., "A System for Massively Parallel
    Hyperparameter Tuning" (MLSys 2020), in the variant that stops trials instead of pausing them: a
    trial goes on if it is among the best of those that have reached the same epoch so far. While
    these are fewer than ``factor``, the best one goes on.

    Args:
        factor: the reduction factor.
    """

    factor: int = REDUCTION_FACTOR
    rungs: dict[int, dict[str, float]] = field(default_factory=dict)  # by epoch and trial

    def report(self, trial_id: str, epoch: int, value: float) -> bool:
        """Compare the trial with all others at a rung; between two rungs it goes on."""
        if not self._is_rung(epoch):
            return False
        rung = self.rungs.setdefault(epoch, {})
        rung[trial_id] = value
        promoted = max(1, len(rung) // self.factor)
        return value < sorted(rung.values(), reverse=True)[promoted - 1]

    def _is_rung(self, epoch: int) -> bool:
        while epoch % self.factor == 0:
            epoch //= self.factor
        return epoch == 1

    def complete(self, trial_id: str) -> None:
        """Change nothing: its values are known."""

    def forget(self, trial_id: str) -> None:
        """Remove the trial from all rungs."""
        for rung in self.rungs.values():
            rung.pop(trial_id, None)


MEDIAN = PrunerKind(
    f"ends a trial whose best epoch is below the median of completed trials at the same epoch; "
    f"not before {STARTUP_TRIALS} trials have completed, nor in the first epoch",
    MedianPruner,
    first_epoch=WARMUP_EPOCHS + 1,
    spared=STARTUP_TRIALS,
)
ASHA = PrunerKind(
    f"asynchronous successive halving: at epochs 1, {REDUCTION_FACTOR}, {REDUCTION_FACTOR**2}, ... "
    f"the best third of the trials goes on",
    HalvingPruner,
)
