"""Keras Tuner's oracles, asked and told directly.

Keras Tuner's ``Tuner`` and its chief/worker mode are not used: the first writes state in place
and needs TensorBoard, the second hangs when a worker is killed. The oracles keep nothing on
disk here; :mod:`imdbtune.search.journal` does.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from threadpoolctl import threadpool_limits

from imdbtune.config.schema import SearchConfig
from imdbtune.config.search_space import Dimension, SearchSpace
from imdbtune.gaussian_process import quick
from imdbtune.tuner_library import equip_bayesian, keras_tuner

# Keras Tuner takes seed 0 for "no seed" and draws one.
SEED_OFFSET = 1
# Draws in a row of what was there before, after which Hyperband takes the space for exhausted.
MAX_COLLISIONS = 200


def make_sampler(config: SearchConfig) -> Any:
    """The oracle of a search, knowing its space, budget and seed."""
    library = keras_tuner()
    oracles = library.oracles
    kinds = {
        "random": oracles.RandomSearchOracle,
        "grid": oracles.GridSearchOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
        "hyperband": oracles.HyperbandOracle,
    }
    if config.tuner.kind == "bayesian":
        equip_bayesian()
    direction = "max" if config.tuner.objective == "val_accuracy" else "min"
    arguments: dict[str, Any] = {
        "objective": library.Objective(config.tuner.objective, direction),
        "hyperparameters": keras_tuner_space(config.space),
        "tune_new_entries": False,
        "allow_new_entries": False,
        "seed": config.tuner.seed + SEED_OFFSET,
    }
    if config.tuner.kind == "hyperband":
        arguments["max_epochs"] = config.training.epochs
    else:
        # The driver keeps the budget, so that it can be extended.
        arguments["max_trials"] = None
    made = _in_memory(kinds[config.tuner.kind])(**arguments)
    made.verbose = 0
    if config.tuner.kind == "hyperband":
        made._max_collisions = MAX_COLLISIONS
    return made


def keras_tuner_space(space: SearchSpace) -> Any:
    """Return the searched dimensions as Keras Tuner's ``HyperParameters``."""
    found = keras_tuner().HyperParameters()
    found.merge([_hyperparameter(d, space.constants.keys()) for d in space.searched])
    return found


def _hyperparameter(dimension: Dimension, constants: Collection[str]) -> Any:
    """Return a dimension as Keras Tuner's ``HyperParameter``, with its conditions."""
    library = keras_tuner()
    kinds = library.engine.hyperparameters
    # hp.conditional_scope() needs each parent to depend on all those before it, so conditions are
    # given directly. Their class is not exported; seen in keras-tuner 1.4.8.
    condition = library.src.engine.conditions.Parent
    conditions = [
        condition(parent, list(values))
        for parent, values in dimension.when
        if parent not in constants  # it always holds
    ]
    steps = dimension.grid() if dimension.step and not dimension.is_int else None
    if dimension.values or steps:  # Keras Tuner miscounts inexact steps of floats
        values = list(dimension.values or steps or ())
        return kinds.Choice(dimension.name, values, conditions=conditions)
    return (kinds.Int if dimension.is_int else kinds.Float)(
        dimension.name,
        dimension.typed(dimension.low),
        dimension.typed(dimension.high),
        step=dimension.typed(dimension.step) if dimension.step is not None else None,
        sampling=dimension.sampling,
        conditions=conditions,
    )


def _in_memory(kind: type[Any]) -> type[Any]:
    oracles = keras_tuner().oracles

    class InMemory(kind):
        """An oracle that writes no files; whether failures end a search is not its to say."""

        exhausted = False  # of a Hyperband: nothing new is to be drawn any more

        def populate_space(self, trial_id: str) -> Any:
            """The next values; a grid's do not wait for the trial before them to end."""
            if isinstance(self, oracles.HyperbandOracle):
                return _promoted(self, trial_id) or _drawn(self, trial_id)
            if isinstance(self, oracles.BayesianOptimizationOracle):
                # A second thread would wait for work on a core that a trial is trained on.
                with threadpool_limits(1):
                    return super().populate_space(trial_id)
            answer = super().populate_space(trial_id)
            if isinstance(self, oracles.GridSearchOracle) and answer["values"]:
                self._populate_next.append(trial_id)
            return answer

        def _make_gpr(self) -> Any:
            return quick(super()._make_gpr())

        def save(self) -> None:
            """Nothing."""

        def _save_trial(self, trial: Any) -> None:
            """Nothing."""

        def _check_consecutive_failures(self) -> None:
            """Nothing."""

    return InMemory


def _promoted(oracle: Any, trial_id: str) -> dict[str, Any] | None:
    """The next trial that goes on from one of the round before, if there is one.

    A round begins when all trials of the one before it have ended (Li et al. 2018, algorithm 1),
    so that which of them go on does not depend on the order in which they end. Keras Tuner begins
    it earlier, with the best of those that happen to have ended, and does not fill it where
    trials have failed; here these are the first to be thrown out.
    """
    for bracket in oracle._brackets:
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        if len(rounds[0]) < oracle._get_size(number, 0) and not oracle.exhausted:
            continue
        for to in range(1, len(rounds)):
            past = [oracle.trials[info["id"]] for info in rounds[to - 1]]
            if any(trial.status == "RUNNING" for trial in past):
                break
            completed = [trial for trial in past if trial.status == "COMPLETED"]
            if len(rounds[to]) < min(oracle._get_size(number, to), len(completed)):
                taken = {info["past_id"] for info in rounds[to]}
                ready = [trial for trial in completed if trial.trial_id not in taken]
                best = _best(ready, oracle.objective.direction)
                rounds[to].append({"past_id": best.trial_id, "id": trial_id})
                return {"status": "RUNNING", "values": _continued(oracle, number, to, best)}
    return None


def _drawn(oracle: Any, trial_id: str) -> dict[str, Any]:
    """A new trial of a first round, or that there is none: now, or any more.

    Once the space has nothing new, nothing is drawn any more: how often else would depend on how
    often there is a free worker. First rounds that are not full stay as they are.
    """
    while not oracle.exhausted:
        bracket = oracle._brackets[-1]
        if len(bracket["rounds"][0]) < oracle._get_size(bracket["bracket_num"], 0):
            answer: dict[str, Any] = oracle._random_trial(trial_id, bracket)
            if answer["status"] == "RUNNING":
                return answer
            oracle.exhausted = True
            return _promoted(oracle, trial_id) or answer
        if oracle._current_bracket == 0:
            break
        oracle._increment_bracket_num()
        oracle._start_new_bracket()
    return {"status": "IDLE" if oracle.ongoing_trials else "STOPPED"}


def _best(trials: list[Any], direction: str) -> Any:
    return sorted(trials, key=lambda trial: trial.score, reverse=direction == "max")[0]


def _continued(oracle: Any, bracket: int, to: int, past: Any) -> dict[str, Any]:
    """The values of a trial that goes on from ``past``, with the keys that Hyperband adds."""
    return {
        **past.hyperparameters.values,
        "tuner/trial_id": past.trial_id,
        "tuner/epochs": oracle._get_epochs(bracket, to),
        "tuner/initial_epoch": oracle._get_epochs(bracket, to - 1),
        "tuner/bracket": bracket,
        "tuner/round": to,
    }
