"""Keras Tuner's oracles, asked and told directly.

Keras Tuner's ``Tuner`` and its chief/worker mode are not used: the first writes state in place
and needs TensorBoard, the second hangs when a worker is killed. The oracles keep nothing on
disk here; :mod:`imdbtune.journal` does.
"""

from __future__ import annotations

from typing import Any

from imdbtune.config import SearchConfig
from imdbtune.tuner_library import keras_tuner

# Keras Tuner takes seed 0 for "no seed" and draws one.
SEED_OFFSET = 1


def make_oracle(config: SearchConfig) -> Any:
    """The oracle of a search, knowing its space, budget and seed."""
    library = keras_tuner()
    oracles = library.oracles
    kinds = {
        "random": oracles.RandomSearchOracle,
        "grid": oracles.GridSearchOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
        "hyperband": oracles.HyperbandOracle,
    }
    direction = "max" if config.tuner.objective == "val_accuracy" else "min"
    arguments: dict[str, Any] = {
        "objective": library.Objective(config.tuner.objective, direction),
        "hyperparameters": config.space.hyperparameters(),
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
    return made


def _in_memory(kind: type[Any]) -> type[Any]:
    oracles = keras_tuner().oracles

    class InMemory(kind):
        """An oracle that writes no files; whether failures end a search is not its to say."""

        def populate_space(self, trial_id: str) -> Any:
            """The next values; a grid's do not wait for the trial before them to end."""
            if isinstance(self, oracles.HyperbandOracle):
                answer = _promoted(self, trial_id) or super().populate_space(trial_id)
                if answer["status"] == "RUNNING":
                    return answer
                _leave_empty(self)
                return _promoted(self, trial_id) or answer
            answer = super().populate_space(trial_id)
            if isinstance(self, oracles.GridSearchOracle) and answer["values"]:
                self._populate_next.append(trial_id)
            return answer

        def save(self) -> None:
            """Nothing."""

        def _save_trial(self, trial: Any) -> None:
            """Nothing."""

        def _check_consecutive_failures(self) -> None:
            """Nothing."""

    return InMemory


def _promoted(oracle: Any, trial_id: str) -> dict[str, Any] | None:
    """The next trial that goes on from one of the round before, if there is one.

    Keras Tuner's rule waits until more trials of a round have been completed than it will throw
    out, which is never where some have failed. Here the failed ones are the first to be thrown
    out; without failures both rules answer alike.
    """
    for bracket in oracle._brackets:
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        empty = bracket.get("empty", 0)  # places of the round before that will stay empty
        if len(rounds[0]) + empty < oracle._get_size(number, 0):
            continue
        for to in range(1, len(rounds)):
            past, size = oracle._get_size(number, to - 1), oracle._get_size(number, to)
            trials = [oracle.trials[info["id"]] for info in rounds[to - 1]]
            failed = sum(trial.status == "FAILED" for trial in trials)
            taken = {info["past_id"] for info in rounds[to]}
            ready = [t for t in trials if t.status == "COMPLETED" and t.trial_id not in taken]
            if ready and len(ready) + failed + empty > past - size:
                best = _best(ready, oracle.objective.direction)
                rounds[to].append({"past_id": best.trial_id, "id": trial_id})
                return {"status": "RUNNING", "values": _continued(oracle, number, to, best)}
            empty = max(0, size - (past - failed - empty))
    return None


def _leave_empty(oracle: Any) -> None:
    """Nothing new is to be had for first rounds that are not full: they stay as they are."""
    for bracket in oracle._brackets:
        size = oracle._get_size(bracket["bracket_num"], 0)
        bracket["empty"] = size - len(bracket["rounds"][0])


def _best(trials: list[Any], direction: str) -> Any:
    return sorted(trials, key=lambda trial: trial.score, reverse=direction == "max")[0]


def _continued(oracle: Any, bracket: int, to: int, past: Any) -> dict[str, Any]:
    """The values of a trial that goes on from ``past``, with the keys that Hyperband adds."""
    return {
        **past.hyperparameters.values,
        "tuner/trial_id": past.trial_id,
        "tuner/epochs": oracle._get_epochs(bracket, to),
        "tuner/initial_epoch": oracle._get_epochs(bracket, to - 1),
        "tuner/bracket": oracle._current_bracket,
        "tuner/round": to,
    }
