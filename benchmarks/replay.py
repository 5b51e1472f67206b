"""Searches in simulated time: real samplers and pruners, trainings from a table of curves."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from itertools import count

from benchmarks.curve_table import Curve, CurveTable
from imdbtune.config.schema import SearchConfig
from imdbtune.search.pruner import Pruner, pruner_kind
from imdbtune.search.sampler import Sampler, Suggestion, make_sampler


@dataclass(frozen=True)
class Method:
    """What chooses trials and what ends them early, by their names in the configuration.

    Args:
        first: ``tried``: begin with what the default workflow tries first, which is known from the
            same table; otherwise with nothing that is known.
    """

    sampler: str
    pruner: str = "none"
    first: str = ""

    @property
    def label(self) -> str:
        """Such as ``tpe, asha``."""
        parts = [self.sampler, *([self.pruner] if self.pruner != "none" else [])]
        return ", ".join([*parts, *(["from a known configuration"] if self.first else [])])

    def config(self, table: CurveTable, seed: int, trials: int) -> SearchConfig:
        """Return the configuration of a search of the table's space.

        Args:
            seed: of the sampler.
            trials: the largest number of them, by which ``bayesian`` plans its first ones.
        """
        tuner = replace(
            table.config.tuner,
            kind=self.sampler,
            prune=self.pruner,
            seed=seed,
            max_trials=trials,
            tries=table.config.tuner.tries if self.first else "",
        )
        return replace(table.config, tuner=tuner)


@dataclass(frozen=True)
class Found:
    """A best value so far.

    Args:
        seconds: since the start of the search.
        accuracy: the best on the validation reviews of all trials that have ended.
    """

    seconds: float
    accuracy: float


@dataclass
class Replay:
    """A search in simulated time.

    Args:
        table: what a training gives, and how long it takes.
        workers: that train at the same time.
        seconds: the end of the search.
    """

    table: CurveTable
    sampler: Sampler
    pruner: Pruner | None
    trials: int
    workers: int
    seconds: float
    best: list[Found] = field(default_factory=list)
    started: int = 0
    # The next end of an epoch of each running trial: when, and a number that breaks ties.
    _running: list[tuple[float, int, RunningTrial]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    @classmethod
    def of(cls, table: CurveTable, config: SearchConfig, workers: int, seconds: float) -> Replay:
        """Return the search of a configuration."""
        kind = pruner_kind(config)
        pruner = kind.make() if kind else None
        trials = config.tuner.max_trials
        return cls(table, make_sampler(config), pruner, trials, workers, seconds)

    @property
    def running(self) -> int:
        """The number of running trials."""
        return len(self._running)

    def run(self) -> list[Found]:
        """Run the search to its end; return each improvement."""
        self._start_trials(0.0)
        while self._running and self._running[0][0] <= self.seconds:
            now, _, trial = heapq.heappop(self._running)
            trial.epoch += 1
            if trial.epoch < trial.last and not self._is_pruned(trial):
                self._push(trial, now)
                continue
            self._end(trial, now)
            self._start_trials(now)
        return self.best

    def _start_trials(self, now: float) -> None:
        while len(self._running) < self.workers and self.started < self.trials:
            answer = self.sampler.ask()
            if not isinstance(answer, Suggestion):
                return
            curve = self.table.curves[self.table.config.space.params(answer.values)][0]
            last = answer.epochs or len(curve.accuracy)
            self.started += 1
            self._push(RunningTrial(answer.trial_id, curve, answer.initial_epoch, last), now)

    def _push(self, trial: RunningTrial, now: float) -> None:
        heapq.heappush(self._running, (now + trial.next_seconds, next(self._numbers), trial))

    def _is_pruned(self, trial: RunningTrial) -> bool:
        value = trial.curve.accuracy[trial.epoch - 1]
        trial.pruned = self.pruner is not None and self.pruner.report(
            trial.trial_id, trial.epoch, value
        )
        return trial.pruned

    def _end(self, trial: RunningTrial, now: float) -> None:
        score = max(trial.curve.accuracy[: trial.epoch])
        if self.pruner is not None and not trial.pruned:
            self.pruner.report(trial.trial_id, trial.epoch, trial.curve.accuracy[trial.epoch - 1])
            self.pruner.complete(trial.trial_id)
        self.sampler.tell(trial.trial_id, score, "pruned" if trial.pruned else "")
        if not self.best or score > self.best[-1].accuracy:
            self.best.append(Found(now, score))


@dataclass
class RunningTrial:
    """A trial in training.

    Args:
        epoch: the last one that has ended.
        last: the epoch with which it ends.
    """

    trial_id: str
    curve: Curve
    epoch: int
    last: int
    pruned: bool = False

    @property
    def next_seconds(self) -> float:
        """How long the next epoch takes, with the start of the trial before its first one."""
        ends = (0.0, *self.curve.seconds)
        return ends[self.epoch + 1] - ends[self.epoch]
