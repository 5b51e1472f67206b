"""What ends trials early that are worse than others: the interface of all pruners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from imdbtune.config.extensions import PRUNERS
from imdbtune.config.schema import NO_PRUNER, SearchConfig


class Pruner(Protocol):
    """Decides after each epoch whether its trial goes on.

    A pruner is deterministic: after the same calls, it gives the same answers. Larger values are
    better; an objective that is minimised is reported with the opposite sign.
    """

    def report(self, trial_id: str, epoch: int, value: float) -> bool:
        """Record the objective of an epoch; return whether the trial is to be pruned.

        Args:
            trial_id: the trial.
            epoch: from 1; a trial reports each of its epochs once, in order.
            value: a finite number.
        """

    def complete(self, trial_id: str) -> None:
        """Note that a trial has ended without being pruned."""

    def forget(self, trial_id: str) -> None:
        """Forget the values of a trial that has failed; it may be run again with another seed."""


@dataclass(frozen=True)
class PrunerKind:
    """The registry entry of a pruner; to import it must not take seconds.

    Args:
        about: one line for the documentation.
        make: returns a new pruner.
        first_epoch: after which a trial can be pruned at the earliest, for ``--estimate``.
        spared: number of first trials that are never pruned, for ``--estimate``.
    """

    about: str
    make: Callable[[], Pruner]
    first_epoch: int = 1
    spared: int = 0


def note_on_pruner(config: SearchConfig) -> str:
    """Return why the pruner of a configuration has no effect; empty: it may have one."""
    if config.tuner.prune == NO_PRUNER or config.training.epochs > 1 or config.tuner.folds:
        return ""
    return (
        f"prune = {config.tuner.prune} has no effect on trials of one epoch; give more --epochs, "
        "or leave prune out."
    )


def pruner_kind(config: SearchConfig) -> PrunerKind | None:
    """Return the registry entry of a configuration's pruner; ``None``: it has none."""
    return None if config.tuner.prune == NO_PRUNER else PRUNERS[config.tuner.prune]
