"""A pruner: a trial ends with the first epoch that is worse than the one before it."""

from __future__ import annotations

from dataclasses import dataclass, field

from imdbtune.search.pruner import PrunerKind


@dataclass
class Downhill:
    """Compare each epoch with the previous one of the same trial."""

    last: dict[str, float] = field(default_factory=dict)

    def report(self, trial_id: str, epoch: int, value: float) -> bool:
        before = self.last.get(trial_id, value)
        self.last[trial_id] = value
        return value < before

    def complete(self, trial_id: str) -> None:
        """Change nothing: trials are not compared with each other."""

    def forget(self, trial_id: str) -> None:
        self.last.pop(trial_id, None)


DOWNHILL = PrunerKind(
    about="ends a trial with the first epoch that is worse", make=Downhill, first_epoch=2
)
