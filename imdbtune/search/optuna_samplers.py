"""Optuna's samplers: the only module that imports Optuna.

Each search has a study in memory, to which trials are added by ``ask`` and ``tell``. A sampler of
Optuna is made anew for each suggestion, with a seed of its own: what it suggests depends on the
trials in the study and on the number of the suggestion, not on random numbers that were drawn
before. So a study that is rebuilt from the journal continues as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import optuna
from optuna import samplers
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from imdbtune.config.hyperparameters import Scalar, TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.config.search_space import Dimension
from imdbtune.errors import SearchAborted
from imdbtune.search.initial_trials import InitialTrials
from imdbtune.search.sampler import Answer, Borrowed, Past, Stopped, Suggestion, Told

# Trials of the design before the first one that is modelled.
INITIAL_TRIALS = 10
# Suggestions in a row that repeat known configurations, before one of the design is taken.
MAX_REPEATS = 10
POPULATION = 10  # of NSGA-II; Optuna's 50 is more than most searches have trials

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports each study that is created


class OptunaSampler:
    """Base of all samplers: a study, and the trials of the search by their ids.

    A configuration is suggested once. The first are :class:`InitialTrials`.
    """

    # Whether Optuna's sampler keeps a state in the study besides the trials. It is restored by
    # suggesting all trials again; otherwise the recorded values are put into the study.
    has_state = False

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.codes = {d.name: _code(d) for d in config.space.searched}
        self.initial = InitialTrials(config)
        self.initial_count = max(INITIAL_TRIALS, len(self.initial.tried))
        self.known: set[TrialParams] = set()
        self.trials: dict[str, optuna.Trial] = {}
        self.params: dict[str, TrialParams] = {}
        self.ended: set[str] = set()
        self.study = optuna.create_study(
            directions=[
                "maximize" if config.is_maximised(name) else "minimize"
                for name in config.tuner.objectives
            ],
            sampler=RandomSampler(seed=0),
        )

    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""
        raise NotImplementedError

    def ask(self) -> Answer:
        """Return the next trial, or that the space has no new configuration."""
        if len(self.known) >= self.initial_count:  # those that were borrowed count
            for repeat in range(MAX_REPEATS):
                self.study.sampler = self._seeded(repeat)
                trial = self.study.ask()
                values = self._suggest(trial)
                if self._is_wanted(values):
                    return self._add(trial, values)
                self.study.tell(trial, state=TrialState.FAIL)  # Optuna's samplers ignore it
        point = self.initial.next_new(self.known)
        return Stopped(space_exhausted=True) if point is None else self._put_in(point)

    def tell(
        self,
        trial_id: str,
        score: float | None,
        reason: str = "",
        measured: Mapping[str, float] = {},
    ) -> None:
        """End a trial with its results, or as failed; one that has ended is left unchanged."""
        if trial_id in self.ended:
            return
        self.ended.add(trial_id)
        self._tell(self.trials[trial_id], self.params[trial_id], score, measured)

    def _tell(
        self,
        trial: optuna.Trial,
        params: TrialParams,
        score: float | None,
        measured: Mapping[str, float],
    ) -> None:
        """End a trial with the values of all objectives, and whether it meets the constraint."""
        further = self.config.tuner.objectives[1:]
        if score is None or not measured.keys() >= {*further}:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        constraint = self.initial.constraint
        if constraint.needs_result:
            trial.set_constraint("require", 0.0 if constraint.is_met(params, measured) else 1.0)
        self.study.tell(trial, [score, *(measured[name] for name in further)])

    def restore(self, history: Sequence[Past]) -> None:
        """Bring the study to the state after ``history``.

        Raises:
            SearchAborted: the sampler suggests other trials now, or one is not in the space.
        """
        for past in history:
            if isinstance(past, Told):
                self.tell(past.trial_id, past.score, past.reason, past.measured)
            elif isinstance(past, Borrowed):
                self._learn(past)
            elif isinstance(past, Suggestion) and self._repeat(past) != past:
                raise SearchAborted(
                    f"trial {past.trial_id} comes out differently now; the search was begun with "
                    "another version of Optuna or of imdbtune. Start a new one."
                )

    def _learn(self, past: Borrowed) -> None:
        """Add a finished trial that is not one of this search to the study."""
        trial = self._ask_for(past.values)
        self._suggest(trial)
        params = self.config.space.params(past.values)
        self._tell(trial, params, past.score, past.measured)
        self.known.add(params)

    def _repeat(self, past: Suggestion) -> Answer | None:
        if self.has_state:
            return self.ask()
        try:
            return self._put_in(past.values)
        except ValueError:  # they are not in the space
            return None

    def _seeded(self, repeat: int) -> BaseSampler:
        """Return Optuna's sampler for the next trial, with a seed for each repetition."""
        seeds = np.random.SeedSequence([self.config.tuner.seed, len(self.trials), repeat])
        return self.make(int(seeds.generate_state(1)[0] >> 1))

    def _is_wanted(self, values: Mapping[str, Scalar]) -> bool:
        """Return whether a configuration is new and meets the constraint."""
        params = self.config.space.params(values)
        return params not in self.known and self.initial.constraint.allows(params)

    def _put_in(self, values: Mapping[str, Scalar]) -> Suggestion:
        """Add a trial with these values.

        Raises:
            ValueError: they are not in the space.
        """
        trial = self._ask_for(values)
        return self._add(trial, self._suggest(trial))

    def _ask_for(self, values: Mapping[str, Scalar]) -> optuna.Trial:
        """Return a new trial of the study, to which it will suggest these values."""
        self.study.enqueue_trial({name: self.codes[name].encode(v) for name, v in values.items()})
        return self.study.ask()

    def _suggest(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """Return the values of the hyperparameters that are active in a trial."""
        values: dict[str, Scalar] = {}
        chosen = dict(self.config.space.constants)
        for dimension in self.config.space.searched:
            if dimension.is_active(chosen):
                value = self.codes[dimension.name].suggest(trial)
                values[dimension.name] = chosen[dimension.name] = value
        return values

    def _add(self, trial: optuna.Trial, values: dict[str, Scalar]) -> Suggestion:
        """Return a suggestion of the study as a trial of the search."""
        suggestion = Suggestion(f"{len(self.trials):04d}", values)
        params = self.config.space.params(values)
        self.trials[suggestion.trial_id], self.params[suggestion.trial_id] = trial, params
        self.known.add(params)
        return suggestion


class TpeSampler(OptunaSampler):
    """Tree-structured Parzen estimators; running trials count as bad ones (constant liar)."""

    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler, which models all hyperparameters without a condition jointly."""
        return samplers.TPESampler(n_startup_trials=INITIAL_TRIALS, seed=seed)


class GpSampler(OptunaSampler):
    """A Gaussian process; choices with a condition are drawn at random."""

    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""
        return samplers.GPSampler(
            n_startup_trials=INITIAL_TRIALS, seed=seed, warn_independent_sampling=False
        )


class CmaEsSampler(OptunaSampler):
    """CMA-ES for numbers; TPE for choices and for hyperparameters with a condition."""

    has_state = True

    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""
        return samplers.CmaEsSampler(
            n_startup_trials=INITIAL_TRIALS,
            seed=seed,
            warn_independent_sampling=False,
            independent_sampler=samplers.TPESampler(n_startup_trials=INITIAL_TRIALS, seed=seed),
        )


class Nsga2Sampler(OptunaSampler):
    """NSGA-II, whose first generation begins with the points of the design."""

    has_state = True

    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""
        return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)


class _Code(Protocol):
    """How a dimension is written in the study."""

    def suggest(self, trial: optuna.Trial) -> Scalar:
        """Return the value that is suggested to a trial."""

    def encode(self, value: Scalar) -> Scalar:
        """Return the study's value for one of the dimension.

        Raises:
            ValueError: the dimension does not have it.
        """


@dataclass(frozen=True)
class _Choice(_Code):
    """Values without an order."""

    name: str
    values: tuple[Scalar, ...]

    def suggest(self, trial: optuna.Trial) -> Scalar:
        return cast("Scalar", trial.suggest_categorical(self.name, self.values))

    def encode(self, value: Scalar) -> Scalar:
        return self.values[self.values.index(value)]


@dataclass(frozen=True)
class _Level(_Code):
    """Numbers at steps of any size, as their position in ascending order."""

    name: str
    values: tuple[Scalar, ...]

    def suggest(self, trial: optuna.Trial) -> Scalar:
        return self.values[trial.suggest_int(self.name, 0, len(self.values) - 1)]

    def encode(self, value: Scalar) -> Scalar:
        return self.values.index(value)


@dataclass(frozen=True)
class _Range(_Code):
    """Any number between two bounds."""

    name: str
    low: float
    high: float
    log: bool
    is_int: bool

    def suggest(self, trial: optuna.Trial) -> Scalar:
        if self.is_int:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def encode(self, value: Scalar) -> Scalar:
        if isinstance(value, str) or not self.low <= value <= self.high:
            raise ValueError(f"{value} is not from {self.low} to {self.high}")
        return value


def _code(dimension: Dimension) -> _Code:
    name, log = dimension.name, dimension.sampling == "log"
    values = dimension.values or (dimension.grid() if dimension.step else None)
    if not values:
        low, high = (float(dimension.typed(bound)) for bound in (dimension.low, dimension.high))
        return _Range(name, low, high, log, dimension.is_int)
    if any(isinstance(value, str | bool) for value in values):
        return _Choice(name, tuple(values))
    return _Level(name, tuple(sorted(values)))
