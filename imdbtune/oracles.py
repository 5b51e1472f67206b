"""Keras Tuner's oracles, asked and told directly.

Keras Tuner's ``Tuner`` and its chief/worker mode are not used: the first writes state in place
and needs TensorBoard, the second hangs when a worker is killed. The oracles keep nothing on
disk here; :mod:`imdbtune.journal` does.
"""

from __future__ import annotations

import warnings
from typing import Any

from imdbtune.config import SearchConfig

# Keras Tuner takes seed 0 for "no seed" and draws one.
SEED_OFFSET = 1


def make_oracle(config: SearchConfig) -> Any:
    """The oracle of a search, knowing its space, budget and seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras_tuner
        from keras_tuner import oracles

    kinds = {
        "random": oracles.RandomSearchOracle,
        "grid": oracles.GridSearchOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
        "hyperband": oracles.HyperbandOracle,
    }
    direction = "max" if config.tuner.objective == "val_accuracy" else "min"
    arguments: dict[str, Any] = {
        "objective": keras_tuner.Objective(config.tuner.objective, direction),
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
    import keras_tuner

    class InMemory(kind):
        """An oracle that writes no files; whether failures end a search is not its to say."""

        def populate_space(self, trial_id: str) -> Any:
            """The next values; a grid's do not wait for the trial before them to end."""
            answer = super().populate_space(trial_id)
            if isinstance(self, keras_tuner.oracles.GridSearchOracle) and answer["values"]:
                self._populate_next.append(trial_id)
            return answer

        def save(self) -> None:
            """Nothing."""

        def _save_trial(self, trial: Any) -> None:
            """Nothing."""

        def _check_consecutive_failures(self) -> None:
            """Nothing."""

    return InMemory
