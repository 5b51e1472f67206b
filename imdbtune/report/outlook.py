"""What more trials would bring, and what distinguishes the best ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from imdbtune.report.effects import varied_params
from imdbtune.report.findings import with_accuracy
from imdbtune.tracking.entities import Search, Trial

# Of other samplers, later trials are better than earlier ones by intention.
DRAWN_AT_RANDOM = ("random",)
MIN_TRIALS = 20  # of which the best tenth are compared with all


@dataclass(frozen=True)
class ExpectedBest:
    """The expected best accuracy of a search with fewer trials.

    Args:
        values: of 1, 2, ... trials, up to as many as there are.
    """

    values: tuple[float, ...]

    @property
    def last_gain(self) -> float:
        """What the second half of the trials has added."""
        return self.values[-1] - self.values[len(self.values) // 2 - 1]


def expected_best(search: Search, trials: Sequence[Trial]) -> ExpectedBest | None:
    """Return the expected best accuracy against the number of trials.

    The mean over all choices of k among the n trials: the unbiased estimator of Tang et al.,
    "Showing Your Work Doesn't Always Work" (ACL 2020), for the expected validation performance of
    Dodge et al., "Show Your Work" (EMNLP 2019).

    Returns:
        ``None`` where the trials were not drawn at random, or are fewer than four.
    """
    values = sorted(value for _, value in with_accuracy(trials))
    if search.tags.get("imdbtune.tuner") not in DRAWN_AT_RANDOM or len(values) < 4:
        return None
    count = len(values)
    means = []
    for k in range(1, count + 1):
        # The i-th smallest of n is the largest of C(i - 1, k - 1) of the C(n, k) choices.
        chosen = (math.comb(i - 1, k - 1) * value for i, value in enumerate(values, start=1))
        means.append(sum(chosen) / math.comb(count, k))
    return ExpectedBest(tuple(means))


def ped_anova(trials: Sequence[Trial]) -> dict[str, float]:
    """Return the importance of each hyperparameter for being among the best tenth of the trials.

    PED-ANOVA of Watanabe et al. (IJCAI 2023), by Optuna. The importances add up to 1; empty with
    fewer than ``MIN_TRIALS`` trials.
    """
    found = with_accuracy(trials)
    names = varied_params([trial for trial, _ in found])
    if len(found) < MIN_TRIALS or not names:
        return {}
    from imdbtune.search.optuna_importance import importance_for_the_best

    rows = [
        ({name: v for name in names if (v := trial.params.value(name)) is not None}, value)
        for trial, value in found
    ]
    shared = [name for name in names if all(name in values for values, _ in rows)]
    rows = [({name: values[name] for name in shared}, value) for values, value in rows]
    return importance_for_the_best(rows)
