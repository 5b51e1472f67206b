"""Keras Tuner's oracles as samplers: with ``keras_tuner_space``, all that imports Keras Tuner.

Keras Tuner's ``Tuner`` and its chief/worker mode are not used: the first writes its state in place
and needs TensorBoard, the second hangs when a worker is killed. These samplers write no files;
:mod:`imdbtune.search.journal` records what they suggested and were told, and replays it.

Importing this module imports TensorFlow, which takes seconds; importers do so inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import keras_tuner
import sklearn
from keras_tuner import oracles
from keras_tuner.engine.trial import Trial
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from imdbtune.config.hyperparameters import Scalar, TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.config.search_space import SearchSpace
from imdbtune.errors import SearchAborted
from imdbtune.search.initial_trials import MAX_REFUSED, InitialTrials
from imdbtune.search.keras_tuner_kinds import initial_points
from imdbtune.search.keras_tuner_space import Populated, keras_tuner_space, populated
from imdbtune.search.sampler import Answer, Borrowed, Idle, Past, Stopped, Suggestion, Told

# Keras Tuner takes seed 0 for "no seed" and draws one.
SEED_OFFSET = 1
# Draws in a row that only repeat known values, after which Hyperband's space counts as exhausted.
MAX_COLLISIONS = 200
# Points from which BayesianOptimizationOracle starts to search for the next trial.
RESTARTS = 50
# Restarts of the fit of its regressor, and the share of the scores' variance that is noise: at
# first, and the limits within which it is fitted.
FIT_RESTARTS, NOISE, NOISE_BOUNDS = 4, 0.05, (1e-4, 1.0)
OWN_PREFIX = "tuner/"  # of the values by which Hyperband continues trials


class OracleSampler(keras_tuner.Oracle):
    """Base of all samplers: an oracle without files and without a limit of failures."""

    exhausted = False  # whether Hyperband found no new values; it then only continues trials
    sizes_itself = False  # whether it stops by itself before the space is exhausted
    space: SearchSpace
    initial: InitialTrials  # from which random trials are drawn
    known: set[TrialParams]  # configurations that were suggested

    @classmethod
    def of(cls, config: SearchConfig) -> Self:
        """Return the sampler of a search, with its space, objective and seed."""
        direction = "max" if config.larger_is_better else "min"
        sampler = cls(
            objective=keras_tuner.Objective(config.tuner.main_objective, direction),
            hyperparameters=keras_tuner_space(config.space),
            tune_new_entries=False,
            allow_new_entries=False,
            seed=config.tuner.seed + SEED_OFFSET,
            **cls.budget(config),
        )
        sampler.verbose = 0
        sampler.space, sampler.known = config.space, set()
        sampler.initial = InitialTrials(config)
        return sampler

    @classmethod
    def budget(cls, config: SearchConfig) -> dict[str, int | None]:
        """Return the oracle's own limit: none, because the driver counts the trials."""
        return {"max_trials": None}

    def ask(self) -> Answer:
        """Return the next trial, or that there is none now or ever again."""
        # The generator's state is not exposed; a replay has to restore it.
        # Seen in keras-tuner 1.4.8.
        before = self._seed_state
        while True:
            trial = self.create_trial(f"tuner-{len(self.trials):04d}")
            if trial.status == "IDLE":
                return Idle(self._seed_state, has_changed=self._seed_state != before)
            if trial.status == "STOPPED":
                return Stopped(space_exhausted=self.exhausted or not self.sizes_itself)
            values = dict(trial.hyperparameters.values)
            own = {key: values.pop(key) for key in list(values) if key.startswith(OWN_PREFIX)}
            if self.initial.constraint.allows(self.space.params(values)):
                break
            self.tell(trial.trial_id, None, "refused")  # only a grid suggests such a point
        self.known.add(self.space.params(values))
        return Suggestion(
            trial.trial_id,
            values,
            self._seed_state,
            epochs=own.get("tuner/epochs"),
            initial_epoch=own.get("tuner/initial_epoch", 0),
            continues=own.get("tuner/trial_id", ""),
        )

    def tell(
        self,
        trial_id: str,
        score: float | None,
        reason: str = "",
        measured: Mapping[str, float] = {},
    ) -> None:
        """End a trial with its score, or as failed; one that has ended is left unchanged."""
        trial = self.trials[trial_id]
        if trial.status != "RUNNING":
            return
        if score is None:
            trial.status, trial.message = "FAILED", reason
        else:
            self.update_trial(trial_id, {self.objective.name: score})
            trial.status = "COMPLETED"
        self.end_trial(trial)

    def restore(self, history: Sequence[Past]) -> None:
        """Give the same answers again, so that the sampler is in the same state as then."""
        for past in history:
            if isinstance(past, Told):
                self.tell(past.trial_id, past.score, past.reason, past.measured)
            elif not isinstance(past, Borrowed):
                self._repeat(past)

    def _repeat(self, past: Suggestion | Idle) -> None:
        """Answer once more as in the past.

        Raises:
            SearchAborted: the answer differs: another version, or another configuration.
        """
        again = self.ask()
        # Seen in keras-tuner 1.4.8.
        self._seed_state = past.state
        if isinstance(past, Suggestion) and (
            not isinstance(again, Suggestion) or replace(again, state=past.state) != past
        ):
            raise SearchAborted(
                f"trial {past.trial_id} comes out differently now; the search was begun with "
                "another version of Keras Tuner or of imdbtune. Start a new one."
            )

    def save(self) -> None:
        """Write nothing."""

    # Keras Tuner has no option for an oracle without files. Seen in keras-tuner 1.4.8.
    def _save_trial(self, trial: Trial) -> None:
        """Write nothing."""

    # The driver decides when failures abort the search. Seen in keras-tuner 1.4.8.
    def _check_consecutive_failures(self) -> None:
        """Accept any number of failures."""


class RandomSampler(OracleSampler, oracles.RandomSearchOracle):
    """Random search: nothing but initial trials."""

    def populate_space(self, trial_id: str) -> Populated:
        """Return the next initial trial."""
        return populated(self.initial.next_new(self.known))


class GridSampler(OracleSampler, oracles.GridSearchOracle):
    """Grid search that does not wait for a trial to end before it suggests the next."""

    def populate_space(self, trial_id: str) -> Populated:
        """Return the next point of the grid."""
        answer: Populated = super().populate_space(trial_id)
        if answer["values"]:
            # The oracle suggests nothing after a trial that is not in this queue, and adds one
            # only when it ends. Seen in keras-tuner 1.4.8.
            self._populate_next.append(trial_id)
        return answer


class BayesianSampler(OracleSampler, oracles.BayesianOptimizationOracle):
    """Bayesian optimisation; a replay does not repeat the slow optimisation of each point."""

    _repeated: dict[str, Scalar] | None = None  # the values of the trial that is being repeated

    @classmethod
    def of(cls, config: SearchConfig) -> Self:
        """Return the sampler, with a regressor that knows that scores have noise."""
        sampler = super().of(config)
        # Like Keras Tuner's own, which takes scores as exact but for an alpha of 0.0001.
        sampler.gpr = GaussianProcessRegressor(
            Matern(nu=2.5) + WhiteKernel(NOISE, NOISE_BOUNDS),
            normalize_y=True,
            n_restarts_optimizer=FIT_RESTARTS,
            random_state=sampler.seed,
        )
        return sampler

    @classmethod
    def budget(cls, config: SearchConfig) -> dict[str, int | None]:
        """Return also the number of trials whose scores the first fit of the regressor needs."""
        return {"max_trials": None, "num_initial_points": initial_points(config)}

    def populate_space(self, trial_id: str) -> Populated:
        """Return an initial trial at first, then that of the best upper confidence bound."""
        if self._repeated is not None:
            return {"status": "RUNNING", "values": self._repeated}
        if self._completed < self.num_initial_points:
            return populated(self.initial.next_new(self.known))
        # A second thread would compete with a trial for its core. The regressor is called for one
        # point at a time; checking each is a tenth to a third of the time.
        checks_off = {"assume_finite": True, "skip_parameter_validation": True}
        with threadpool_limits(1), sklearn.config_context(**checks_off):
            self._fit_ended()
            answer: Populated = super().populate_space(trial_id)
        params = self.space.params(answer["values"])
        if params in self.known or not self.initial.constraint.allows(params):
            return populated(self.initial.next_new(self.known))
        return answer

    def _fit_ended(self) -> None:
        """Fit the regressor to the trials that have ended, before it imagines the others' scores.

        Keras Tuner imagines them with its last fit, which has seen less, and at first with none.
        """
        if self.ongoing_trials:
            # Seen in keras-tuner 1.4.8: failed trials are left out.
            points, scores = self._vectorize_trials()
            states = [t.status for t in self.trials.values() if t.status != "FAILED"]
            ended = [state == "COMPLETED" for state in states]
            self.gpr.fit(points[ended], scores[ended])

    @property
    def _completed(self) -> int:
        return sum(trial.status == "COMPLETED" for trial in self.trials.values())

    def _repeat(self, past: Suggestion | Idle) -> None:
        """Use the recorded values, and leave the same state behind as computing them did."""
        self._repeat_side_effects()
        self._repeated = past.values if isinstance(past, Suggestion) else None
        try:
            super()._repeat(past)
        finally:
            self._repeated = None

    def _repeat_side_effects(self) -> None:
        """Fit the regressor and draw random numbers as an answer of the oracle does.

        A pending trial is scored by the regressor's last fit, so replays have to repeat it.
        """
        if self._completed < self.num_initial_points:
            return
        # The body of populate_space() up to its optimisation. Seen in keras-tuner 1.4.8.
        self._fit_ended()
        self.gpr.fit(*self._vectorize_trials())
        bounds = self._get_hp_bounds()
        self._random_state.uniform(bounds[:, 0], bounds[:, 1], size=(RESTARTS, len(bounds)))


class HyperbandSampler(OracleSampler, oracles.HyperbandOracle):
    """Hyperband with whole rounds, whatever the order in which trials end.

    A round begins when all trials of the one before it have ended (Li et al. 2018, algorithm 1),
    so that which of them continue does not depend on the order in which they end. Keras Tuner
    begins it earlier, with the best of those that happen to have ended, and does not fill it
    where trials have failed; here failed trials are the first to be dropped.

    The brackets and their rounds have no public interface: all that is private in this class was
    seen in keras-tuner 1.4.8.
    """

    sizes_itself = True  # it stops when it has run all its brackets

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        # The default, 20, declares small spaces exhausted too early.
        self._max_collisions = MAX_COLLISIONS

    @classmethod
    def budget(cls, config: SearchConfig) -> dict[str, int | None]:
        """Return the number of epochs of the longest trials, which determines the brackets."""
        return {"max_epochs": config.training.epochs}

    def populate_space(self, trial_id: str) -> Populated:
        """Return a trial to continue, or else a new one of a first round."""
        return self._continued(trial_id) or self._new(trial_id)

    def _random_values(self) -> dict[str, Scalar] | None:
        """Return new values that meet the constraint; ``None``: there seem to be none."""
        for _ in range(MAX_REFUSED):
            values: dict[str, Scalar] | None = super()._random_values()
            if values is None or self.initial.constraint.allows(self.space.params(values)):
                return values
        return None

    def _continued(self, trial_id: str) -> Populated | None:
        """Return the next trial that continues one of the round before, if there is one."""
        for bracket in self._brackets:
            number, rounds = bracket["bracket_num"], bracket["rounds"]
            if len(rounds[0]) < self._get_size(number, 0) and not self.exhausted:
                continue
            for to in range(1, len(rounds)):
                past = [self.trials[info["id"]] for info in rounds[to - 1]]
                if any(trial.status == "RUNNING" for trial in past):
                    break
                completed = [trial for trial in past if trial.status == "COMPLETED"]
                if len(rounds[to]) < min(self._get_size(number, to), len(completed)):
                    taken = {info["past_id"] for info in rounds[to]}
                    best = self._best([t for t in completed if t.trial_id not in taken])
                    rounds[to].append({"past_id": best.trial_id, "id": trial_id})
                    return {"status": "RUNNING", "values": self._values(number, to, best)}
        return None

    def _new(self, trial_id: str) -> Populated:
        """Return a new trial of a first round, or that there is none now, or ever.

        Once the space has nothing new, nothing is drawn any more: otherwise the number of draws
        would depend on how often a worker is free. First rounds then stay incomplete.
        """
        while not self.exhausted:
            bracket = self._brackets[-1]
            if len(bracket["rounds"][0]) < self._get_size(bracket["bracket_num"], 0):
                answer: Populated = self._random_trial(trial_id, bracket)
                if answer["status"] == "RUNNING":
                    return answer
                self.exhausted = True
                return self._continued(trial_id) or answer
            if self._current_bracket == 0:
                break
            self._increment_bracket_num()
            self._start_new_bracket()
        return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}

    def _best(self, trials: list[Trial]) -> Trial:
        reverse = self.objective.direction == "max"
        return sorted(trials, key=lambda trial: trial.score, reverse=reverse)[0]

    def _values(self, bracket: int, to: int, past: Trial) -> dict[str, Scalar]:
        """Return the values of a trial that continues ``past``, with Hyperband's own keys."""
        return {
            **past.hyperparameters.values,
            "tuner/trial_id": past.trial_id,
            "tuner/epochs": self._get_epochs(bracket, to),
            "tuner/initial_epoch": self._get_epochs(bracket, to - 1),
            "tuner/bracket": bracket,
            "tuner/round": to,
        }
