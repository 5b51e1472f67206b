"""The test between configurations, against scipy's own and against simulated trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from imdbtune.confirm.significance import (
    MARGIN,
    Repeats,
    compare,
    holm,
    interval,
    rank_configurations,
)


def make(name: str, shares: np.ndarray, rng: np.random.Generator, cost: float = 1.0) -> Repeats:
    """Trainings that are right about each review with the probability of their row."""
    return Repeats(name, rng.random(shares.shape) < shares, cost)


def noisy(name: str, seeds: int, rng: np.random.Generator, shift: float = 0.0) -> Repeats:
    """Trainings with a spread of a point between seeds, on reviews of different difficulty."""
    hard = np.random.default_rng(0).beta(4, 0.6, size=2000)
    level = rng.normal(shift, 0.01, size=(seeds, 1))
    return make(name, np.clip(hard + level, 0, 1), rng)


def test_mean_spread_and_interval_over_seeds_are_students() -> None:
    right = np.zeros((4, 100), bool)
    for seed, count in enumerate([80, 84, 88, 92]):
        right[seed, :count] = True
    repeats = Repeats("a", right, 1.0)
    assert repeats.mean == pytest.approx(0.86)
    assert repeats.spread == pytest.approx(np.std([0.80, 0.84, 0.88, 0.92], ddof=1))
    low, high = stats.t.interval(0.95, 3, 0.86, repeats.spread / 2)
    assert interval(repeats).seeds == pytest.approx((high - low) / 2)


def test_with_one_seed_no_difference_is_significant() -> None:
    one = Repeats("a", np.ones((1, 10), bool), 1.0)
    other = Repeats("b", np.zeros((1, 10), bool), 1.0)
    assert math.isnan(interval(one).seeds)
    assert set(rank_configurations([one, other]).indistinguishable) == {"a", "b"}


def test_without_reviews_noise_it_is_welchs_test() -> None:
    """Where each training is right about as many reviews but the paired parts are small."""
    rng = np.random.default_rng(1)
    seeds_a, seeds_b = 0.9 + 0.01 * rng.normal(size=6), 0.87 + 0.02 * rng.normal(size=9)

    def rows(levels: np.ndarray) -> np.ndarray:
        order = np.arange(200_000) / 200_000
        return order[None, :] < levels[:, None]

    found = compare(Repeats("a", rows(seeds_a), 1.0), Repeats("b", rows(seeds_b), 1.0))
    welch = stats.ttest_ind(seeds_a, seeds_b, equal_var=False)
    assert found.p == pytest.approx(float(welch.pvalue), rel=0.05)


def test_holm_is_that_of_the_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_equal_configurations_seldom_differ_significantly_and_different_ones_mostly_do() -> None:
    rng = np.random.default_rng(2)
    wrong = sum(compare(noisy("a", 5, rng), noisy("b", 5, rng)).is_significant for _ in range(200))
    assert wrong <= 20  # 5 % of 200, and the chance of more than 20 is below 1 in 1000
    found = sum(
        compare(noisy("a", 5, rng, 0.04), noisy("b", 5, rng)).is_significant for _ in range(50)
    )
    assert found > 40


def test_the_cheapest_that_is_shown_to_be_as_good_is_recommended() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(20_000) < 0.1  # the same reviews are too hard for both
    best = make("best", np.where(hard, 0.02, 0.99) * np.ones((5, 1)), rng, cost=60)
    cheap = make("cheap", np.where(hard, 0.01, 0.99) * np.ones((5, 1)), rng, cost=10)
    bad = make("bad", np.full((5, 20_000), 0.8), rng, cost=1)
    ranking = rank_configurations([bad, cheap, best])
    assert ranking.order[-1].name == "bad"
    (close,) = [each for each in ranking.differences if each.name != "bad"]
    assert close.difference < close.largest < MARGIN
    assert ranking.recommended == "cheap"


def test_what_cannot_be_told_apart_is_not_recommended_for_being_cheap() -> None:
    """Two seeds that differ by 36 points differ significantly from nothing."""
    order = np.arange(500) / 500

    def seeds(name: str, cost: float, *levels: float) -> Repeats:
        return Repeats(name, order[None, :] < np.array(levels)[:, None], cost)

    cheap = seeds("cheap", 1.0, 0.976, 0.612)
    ranking = rank_configurations(
        [cheap, seeds("b", 5.0, 0.95, 0.952), seeds("a", 9.0, 0.97, 0.98)]
    )
    assert "cheap" in ranking.indistinguishable
    assert ranking.recommended == "a"


def test_with_one_seed_the_best_mean_is_recommended() -> None:
    best = Repeats("best", np.arange(100)[None, :] < 91, 9.0)
    cheap = Repeats("cheap", np.arange(100)[None, :] < 90, 1.0)
    assert rank_configurations([cheap, best]).recommended == "best"


def test_two_seeds_are_too_few_for_an_interval() -> None:
    right = np.arange(100)[None, :] < np.array([[80], [90]])
    assert math.isnan(interval(Repeats("a", right, 1.0)).seeds)
