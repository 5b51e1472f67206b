"""The importance of hyperparameters, as Optuna computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from imdbtune.config.hyperparameters import PARAMETERS, Scalar


def importance_for_the_best(
    trials: Sequence[tuple[Mapping[str, Scalar], float]],
) -> dict[str, float]:
    """Return Optuna's PED-ANOVA importances by name, the largest first.

    Args:
        trials: values by name, the same names in each; and what is larger for better trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports each study that is created
    study = optuna.create_study(direction="maximize")
    names = trials[0][0].keys()
    spaces = {name: _distribution(name, [values[name] for values, _ in trials]) for name in names}
    for values, score in trials:
        study.add_trial(optuna.create_trial(params=dict(values), distributions=spaces, value=score))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _distribution(name: str, values: Sequence[Scalar]) -> BaseDistribution:
    kind = type(values[0]).__name__
    if name in PARAMETERS and kind != "str":
        kind = str(PARAMETERS[name].type)
    if kind == "int":
        return IntDistribution(min(map(int, values)), max(map(int, values)))
    if kind == "float":
        return FloatDistribution(min(map(float, values)), max(map(float, values)))
    return CategoricalDistribution(sorted(set(values), key=str))
