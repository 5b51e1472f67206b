"""The test between configurations, against scipy's own and against simulated trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from imdbtune.confirm.rule import Rule
from imdbtune.confirm.significance import (
    Repeats,
    compare,
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


def crossed(seeds: int, rng: np.random.Generator, shift: float = 0.0) -> Repeats:
    """Trainings whose seeds disagree on a tenth of the reviews, besides all other effects."""
    alike, own = 2.2 * np.random.default_rng(0).normal(size=1000), 0.35 * rng.normal(size=1000)
    level = 3 + shift + 0.03 * rng.normal(size=(seeds, 1))
    return Repeats("", alike + own + level + rng.normal(size=(seeds, 1000)) > 0, 1.0)


def test_the_error_of_a_difference_counts_the_residual_once() -> None:
    rng = np.random.default_rng(5)
    pairs = [compare(crossed(5, rng), crossed(5, rng)) for _ in range(300)]
    real = np.std([pair.difference for pair in pairs])
    claimed = np.sqrt(np.mean([pair.error**2 for pair in pairs]))
    assert claimed == pytest.approx(real, rel=0.12)  # 0.24 more with the residual twice


@pytest.mark.parametrize("configurations", [2, 5])
def test_a_leader_that_the_data_chose_is_seldom_called_better_than_its_equals(
    configurations: int,
) -> None:
    rng = np.random.default_rng(configurations)
    families = [
        rank_configurations([crossed(5, rng) for _ in range(configurations)]) for _ in range(100)
    ]
    wrong = sum(len(each.indistinguishable) < configurations for each in families)
    assert 0 < wrong <= 12  # 5 % of 100, and the chance of more than 12 is 1 in 1000


def test_p_values_are_those_of_tukeys_range() -> None:
    """With seeds of the same variance and nothing else, as SciPy has it."""
    rng = np.random.default_rng(4)
    seeds = [0.9 + 0.004 * k + 0.01 * rng.normal(size=6) for k in range(3)]
    order = np.arange(200_000) / 200_000
    repeated = [Repeats(str(k), order < levels[:, None], 1.0) for k, levels in enumerate(seeds)]
    ranking = rank_configurations(repeated)
    matrix = stats.tukey_hsd(*seeds).pvalue  # with one variance for all
    for each in ranking.differences:
        expected = matrix[int(ranking.order[0].name), int(each.name)]
        assert each.p == pytest.approx(expected, abs=0.12)


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
    assert ranking.recommended == "cheap"
    assert ranking.is_shown
    assert ranking.undecided == ()
    assert rank_configurations([bad, cheap, best], Rule(margin=0.0)).recommended == "best"


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
    assert not ranking.is_shown
    assert set(ranking.undecided) == {"a", "b", "cheap"}


def test_it_says_how_many_more_seeds_would_decide() -> None:
    rng = np.random.default_rng(6)
    pair = [crossed(3, rng), crossed(3, rng)]
    pair = [Repeats(name, each.values, 1.0) for name, each in zip("ab", pair, strict=True)]
    ranking = rank_configurations(pair, Rule(margin=0.008))
    assert not ranking.is_shown
    more = [crossed(3 + ranking.more_seeds, rng) for _ in pair]
    assert 1 <= ranking.more_seeds <= 20
    assert rank_configurations(more, Rule(margin=0.008)).is_shown
    assert rank_configurations(pair, Rule(margin=0.002)).more_seeds == 0  # too few reviews


def test_with_one_seed_the_best_mean_is_recommended() -> None:
    best = Repeats("best", np.arange(100)[None, :] < 91, 9.0)
    cheap = Repeats("cheap", np.arange(100)[None, :] < 90, 1.0)
    assert rank_configurations([cheap, best]).recommended == "best"


def test_two_seeds_are_too_few_for_an_interval() -> None:
    right = np.arange(100)[None, :] < np.array([[80], [90]])
    assert math.isnan(interval(Repeats("a", right, 1.0)).seeds)
