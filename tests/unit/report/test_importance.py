"""Shares of the variance, against the textbook and against simulations with known truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from imdbtune.config.space_parser import parse_space
from imdbtune.report.importance import _compare, importance_data
from tests.unit.report.test_findings import made_trial


def test_what_decides_everything_explains_everything() -> None:
    trials = [
        made_trial(n, 0.9 if rnn == "gru" else 0.6, rnn=rnn, depth=depth)
        for n, (rnn, depth) in enumerate([(r, d) for r in ("gru", "lstm") for d in (1, 2, 3)])
    ]
    cell, depth = importance_data(trials).alone
    assert (cell.label, depth.label) == ("rnn", "depth")
    assert cell.share == cell.low == pytest.approx(1.0)
    assert depth.low == 0.0


@pytest.mark.parametrize("noise", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
def test_a_huge_ratio_of_variances_is_no_problem(noise: float) -> None:
    codes = np.repeat([0, 1], 4)
    values = codes + noise * np.tile([0.0, 1.0], 4)
    found = _compare(("rnn",), [np.zeros(8, int)], [codes], values)
    assert found is not None
    assert 0.9 < found.low <= found.share <= found.high


def test_the_share_is_epsilon_squared() -> None:
    """Groups (1, 2, 3) and (5, 6, 7): within 4 of 4 degrees, total 28 of 5: 1 - 1 / 5.6."""
    values = [0.1, 0.2, 0.3, 0.5, 0.6, 0.7]
    trials = [made_trial(n, a, depth=1 + n // 3, units=n + 1) for n, a in enumerate(values)]
    shares = {each.label: each.share for each in importance_data(trials).alone}
    assert shares["depth"] == pytest.approx(1 - 1 / 5.6)
    assert "units" not in shares  # each value once


@pytest.mark.parametrize("effect", [0.0, 0.7])
def test_shares_are_unbiased_and_intervals_hold_the_truth(effect: float) -> None:
    levels = effect * np.array([-1.0, 0.0, 1.0])
    truth = levels.var() / (levels.var() + 1)
    shares, held = [], 0
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(size=24)
        accuracies = 0.8 + 0.01 * (levels[np.arange(24) % 3] + noise)
        trials = [
            made_trial(n, a, depth=n % 3 + 1, units=1 + n // 3 // 4, maxlen=n + 1)
            for n, a in enumerate(accuracies.tolist())
        ]
        found = importance_data(trials)
        share = next(each for each in found.alone if each.label == "depth")
        shares.append(share.share)
        held += share.low <= truth <= share.high
    assert np.mean(shares) == pytest.approx(truth, abs=0.04)
    assert held >= 180  # 95 % of 200, and the chance of fewer than 180 is below 1 in 200


def test_an_interaction_is_what_two_explain_together() -> None:
    """A deeper network is better as a GRU and worse as an LSTM."""
    rng = np.random.default_rng(0)
    cases = [(rnn, depth) for rnn in ("gru", "lstm") for depth in (1, 2)] * 4
    trials = [
        made_trial(
            n,
            0.8 + 0.02 * ((rnn == "gru") == (depth == 2)) + 0.001 * float(rng.normal()),
            rnn=rnn,
            depth=depth,
            maxlen=100 + n,
        )
        for n, (rnn, depth) in enumerate(cases)
    ]
    found = importance_data(trials)
    assert found.interactions[0].label == "rnn x depth"
    assert found.interactions[0].low > 0.9
    assert all(each.low == 0 for each in found.alone)
    assert found.left_out == 0
    assert importance_data(trials[:12]).left_out == 2  # those with maxlen, in four ranges


def test_a_condition_leaves_out_the_trials_in_which_it_was_not_active() -> None:
    """Bidirectional GRUs are better; all LSTMs are worst, and have one direction only."""
    space = parse_space(
        {
            "rnn": ["gru", "lstm"],
            "bidirectional": {"values": [False, True], "when": {"rnn": ["gru"]}},
        }
    )
    accuracies = [0.90, 0.91, 0.92, 0.90, 0.91, 0.92, 0.5, 0.5, 0.5, 0.5]
    trials = [
        made_trial(n, a, rnn="gru" if n < 6 else "lstm", bidirectional=n in (1, 3, 5), units=n + 1)
        for n, a in enumerate(accuracies)
    ]
    shares = {each.label: each.share for each in importance_data(trials, space).alone}
    confounded = {each.label: each.share for each in importance_data(trials).alone}
    assert shares["bidirectional"] < 0 < confounded["bidirectional"]


def test_a_configuration_counts_once_with_its_longest_trial() -> None:
    """Of Hyperband, those that continue have two or three trials."""
    pairs = [(1, 0.6), (2, 0.7), (3, 0.8), (4, 0.9)]
    short = [made_trial(n, 0.5, units=u) for n, (u, _) in enumerate(pairs)]
    long = [made_trial(n + 4, a, units=u, depth=1 + u % 2) for n, (u, a) in enumerate(pairs)]
    for trial in short:
        trial.metrics["epochs_run"] = 1.0
    for trial in long:
        trial.metrics["epochs_run"] = 4.0
    both = [trial for trial in [*short, *long] if trial.params.depth == 1]
    assert len({trial.params for trial in both}) == 4
    assert importance_data(both) == importance_data(both[::-1])


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6], [0.5] * 5])
def test_too_little_has_no_importance(values: Sequence[float]) -> None:
    trials = [made_trial(n, a, units=n + 1) for n, a in enumerate(values)]
    assert importance_data(trials).alone == ()
