"""What more trials would bring, against enumeration and simulation."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from imdbtune.report import outlook
from imdbtune.report.findings import with_accuracy
from imdbtune.tracking.entities import Search, Trial
from tests.unit.report.test_findings import made_trial


def made_search(tuner: str = "random") -> Search:
    return Search("s", "s", "FINISHED", "0", {"imdbtune.tuner": tuner}, {}, 0)


def trials_of(*accuracies: float) -> list[Trial]:
    return [made_trial(n, accuracy) for n, accuracy in enumerate(accuracies)]


def test_the_expected_best_is_the_mean_over_all_choices() -> None:
    values = [0.7, 0.9, 0.6, 0.8, 0.85]
    found = outlook.expected_best(made_search(), trials_of(*values))
    assert found is not None
    for k, value in enumerate(found.values, start=1):
        best = [max(chosen) for chosen in itertools.combinations(values, k)]
        assert value == pytest.approx(statistics.fmean(best))
    assert found.last_gain == pytest.approx(0.9 - found.values[1])


@pytest.mark.parametrize(("tuner", "count"), [("tpe", 9), ("hyperband", 9), ("random", 3)])
def test_trials_that_were_not_drawn_at_random_say_nothing(tuner: str, count: int) -> None:
    trials = trials_of(*(0.5 + n / 100 for n in range(count)))
    assert outlook.expected_best(made_search(tuner), trials) is None


def test_what_makes_the_best_trials_is_the_most_important() -> None:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(60):
        units, rnn = int(rng.integers(4, 64)), str(rng.choice(["lstm", "gru"]))
        dropout = float(rng.uniform(0, 0.5))
        accuracy = 0.6 + 0.004 * units + rng.normal(0, 0.01)
        trials.append(made_trial(number, accuracy, units=units, rnn=rnn, dropout=dropout))
    found = outlook.ped_anova(trials)
    assert next(iter(found)) == "units"
    assert found["units"] > 0.7
    assert sum(found.values()) == pytest.approx(1)
    assert outlook.ped_anova(trials[:19]) == {}
    assert len(with_accuracy(trials)) == 60
