"""The numbers of a report, against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.space_parser import parse_space
from imdbtune.report import effects, findings
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Trial


def made_trial(
    number: int,
    accuracy: float,
    status: str = "FINISHED",
    reason: str = "",
    seconds: float = 10.0,
    ended_ms: int | None = 0,
    **params: Any,
) -> Trial:
    metrics = {"best_val_accuracy": accuracy, "train_seconds": seconds, "parameter_count": 100.0}
    tags = {mlflow_names.REASON: reason} if reason else {}
    run_id, name = f"run{number}", f"t{number}"
    return Trial(run_id, name, status, TrialParams(**params), metrics, tags, 0, ended_ms, None)


# How sure.


def test_the_standard_error_of_5000_reviews_near_88_percent_is_046_points() -> None:
    assert findings.standard_error(0.88, 5000) == pytest.approx(0.0046, abs=5e-5)
    assert math.isnan(findings.standard_error(0.88, 0))


def test_the_interval_of_a_share_is_that_of_wilson() -> None:
    assert findings.wilson_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=5e-5)
    assert findings.wilson_interval(0.0, 8) == pytest.approx((0.0, 0.3244), abs=5e-5)
    assert findings.wilson_interval(1.0, 8) == pytest.approx((0.6756, 1.0), abs=5e-5)


def test_trials_within_the_error_of_a_difference_are_alike() -> None:
    # At 0.88 of 5,000 the error of a difference is 0.65 points, times 1.96 makes 1.27.
    uncertainty = findings.uncertainty_data([0.88, 0.868, 0.866, 0.80], 5000)
    assert (uncertainty.trials, uncertainty.indistinguishable) == (4, 2)
    assert findings.Z_95 * uncertainty.standard_error == pytest.approx(1.96 * 0.0046, rel=0.01)
    assert uncertainty.selection_bias == pytest.approx(0.59 * 0.0046, rel=0.02)


def test_one_trial_is_not_flattered() -> None:
    assert findings.uncertainty_data([0.88], 5000).selection_bias == 0


@pytest.mark.parametrize("count", [2, 5, 20, 100])
def test_the_expected_maximum_is_that_of_random_numbers(count: int) -> None:
    drawn = np.random.default_rng(0).standard_normal((20_000, count)).max(axis=1).mean()
    assert findings.expected_maximum(count) == pytest.approx(drawn, abs=0.04)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.5, -0.1])
def test_what_is_no_accuracy_is_left_out(value: float) -> None:
    trials = [made_trial(1, value), made_trial(2, 0.5), made_trial(3, 0.9, "FAILED")]
    assert [trial.name for trial, _ in findings.with_accuracy(trials)] == ["t2"]


# Cost and time.


def test_the_front_holds_what_nothing_else_beats() -> None:
    points = [(10, 0.9), (5, 0.8), (5, 0.7), (20, 0.9), (7, 0.8), (1, 0.6)]
    trials = [made_trial(n, a, seconds=s) for n, (s, a) in enumerate(points)]
    cost = findings.cost_data(trials, "train_seconds")
    assert [cost.points[index] for index in cost.front] == [(1, 0.6), (5, 0.8), (10, 0.9)]


def test_a_trial_without_a_cost_is_left_out() -> None:
    trials = [made_trial(1, 0.9, seconds=0.0), made_trial(2, 0.8, seconds=math.nan)]
    assert findings.cost_data(trials, "train_seconds").points == ()
    assert findings.cost_data(trials, "no_such_metric").front == ()


def test_progress_is_in_the_order_of_ends() -> None:
    trials = [
        made_trial(1, 0.9, ended_ms=180_000),
        made_trial(2, 0.7, ended_ms=120_000),
        made_trial(3, 0.8, ended_ms=240_000),
        made_trial(4, 0.99, ended_ms=None),
    ]
    progress = findings.progress_data(trials, 60_000)
    assert progress.minutes == (1, 2, 3)
    assert progress.accuracies == (0.7, 0.9, 0.8)
    assert progress.best == (0.7, 0.9, 0.9)


def test_a_search_lasts_until_its_last_trial_has_ended() -> None:
    trials = [made_trial(1, 0.5, ended_ms=9_000), made_trial(2, 0.5, "RUNNING", ended_ms=None)]
    assert findings.duration_s(trials, 2_000) == 7.0
    assert findings.duration_s(trials[1:], 2_000) == 0.0


def test_failures_are_counted_by_reason() -> None:
    trials = [
        made_trial(1, math.nan, "FAILED", "loss became nan."),
        made_trial(2, 0.9),
        made_trial(3, math.nan, "KILLED"),
        made_trial(4, math.nan, "FAILED", "loss became nan."),
        made_trial(5, math.nan, "RUNNING"),
    ]
    found = [(f.count, f.status, f.reason) for f in findings.failures_data(trials)]
    assert found == [(2, "FAILED", "loss became nan."), (1, "KILLED", "no reason was logged")]


# Effects.


def test_values_are_grouped_in_their_own_order() -> None:
    rows = [("lstm", 0.9), ("simple_rnn", 0.5), ("gru", 0.8), ("lstm", 0.7)]
    trials = [made_trial(n, a, rnn=rnn) for n, (rnn, a) in enumerate(rows)]
    effect = effects.effect_data("rnn", trials)
    assert [group.label for group in effect.groups] == ["simple_rnn", "lstm", "gru"]
    assert effect.groups[1].accuracies == (0.9, 0.7)
    assert (effect.groups[1].median, effect.groups[1].best) == (pytest.approx(0.8), 0.9)
    assert not effect.is_range


def test_many_numbers_become_four_ranges() -> None:
    trials = [made_trial(n, 0.5 + n / 100, units=n) for n in range(1, 21)]
    effect = effects.effect_data("units", trials)
    assert [group.label for group in effect.groups] == ["1 to 5", "6 to 10", "11 to 15", "16 to 20"]
    assert [len(group.accuracies) for group in effect.groups] == [5] * 4
    assert effect.points[0] == (1.0, 0.51)


def test_ranges_may_be_empty_where_values_pile_up() -> None:
    units = [1] * 30 + list(range(2, 11))
    trials = [made_trial(n, 0.5, units=u) for n, u in enumerate(units)]
    groups = effects.effect_data("units", trials).groups
    assert sum(len(group.accuracies) for group in groups) == 39
    assert all(group.label for group in groups)


def test_parallel_axes_are_even_linear_or_logarithmic() -> None:
    rates = [10 ** (-4 + k / 5) for k in range(10)]
    trials = [
        made_trial(k, 0.5, learning_rate=rate, units=100 + k, rnn=("gru", "lstm")[k % 2])
        for k, rate in enumerate(rates)
    ]
    rnn, units, rate = effects.parallel_data(trials, ["rnn", "units", "learning_rate"]).axes
    assert rnn.ticks == ((0.0, "lstm"), (1.0, "gru"))
    assert rnn.positions[:2] == (1.0, 0.0)
    assert units.positions == pytest.approx([k / 9 for k in range(10)])
    assert rate.positions == pytest.approx([k / 9 for k in range(10)])
    assert [label for _, label in units.ticks] == ["100", "104", "109"]


# What was not tried.


def test_the_values_that_no_trial_has_are_found_with_their_conditions() -> None:
    space = parse_space(
        {
            "rnn": ["simple_rnn", "lstm", "gru"],
            "units": [16, 32, 64],
            "bidirectional": [False, True],
            "dropout": {"values": [0.0, 0.5], "when": {"rnn": "lstm"}},
            "maxlen": {"min": 10, "max": 500},
            "optimizer": "adam",
        }
    )
    trials = [
        made_trial(1, 0.5, rnn="simple_rnn", units=16),  # its dropout is 0.0 by default
        made_trial(2, 0.0, "FAILED", rnn="lstm", units=32, dropout=0.5, bidirectional=True),
    ]
    assert findings.untried_values(space, trials) == {
        "rnn": ["gru"],
        "units": [64],
        "dropout": [0.0],
    }
    assert findings.untried_values(parse_space({"units": [16, 32]}), trials) == {}
