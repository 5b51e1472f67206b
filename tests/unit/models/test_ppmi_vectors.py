"""Word vectors from the neighbours of words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from imdbtune.data.corpus import OOV, START, make_split
from imdbtune.models.ppmi_vectors import LENGTH, SMOOTHING, _neighbours, _ppmi, ppmi_vectors

# Words 10 to 14 are near words 20 to 24, and words 15 to 19 near 25 to 29.
RNG = np.random.default_rng(0)
TOPICS = [(range(10, 15), range(20, 25)), (range(15, 20), range(25, 30))]


def review(number: int) -> list[int]:
    """A word of the first kind, one of the second, and so on."""
    first, second = (RNG.choice(words, 20) for words in TOPICS[number % 2])
    return [START, *itertools.chain(*zip(first, second, strict=True))]


REVIEWS = [review(number) for number in range(60)]
SPLIT = make_split(REVIEWS, [0] * len(REVIEWS))


def test_words_with_the_same_neighbours_have_similar_vectors() -> None:
    vectors = ppmi_vectors(SPLIT, 40, 4)
    similar = vectors @ vectors.T / LENGTH**2
    same, other = similar[10, 11:15], similar[10, 15:20]
    assert same.min() > 0.8
    assert other.max() < 0.4
    np.testing.assert_array_equal(ppmi_vectors(SPLIT, 40, 4), vectors)


def test_all_vectors_have_the_same_length_except_those_without_neighbours() -> None:
    lengths = np.linalg.norm(ppmi_vectors(SPLIT, 40, 4), axis=1)
    assert lengths[10:30] == pytest.approx(LENGTH)
    assert not lengths[:10].any()  # no words: padding, the start, unknown words; words not used
    assert not lengths[30:].any()


def test_neighbours_count_by_their_distance_within_a_review() -> None:
    split = make_split([[START, 4, 5, OOV, 6, 9], [7, 4, 4]], [0, 0])
    counts = _neighbours(split, 8).toarray()
    assert np.array_equal(counts, counts.T)
    assert counts[4, 5] == 1
    assert counts[5, 6] == 0.5
    assert counts[4, 6] == pytest.approx(1 / 3)
    assert counts[7, 4] == 1.5  # once at distance 1, once at 2
    assert counts[4, 4] == 2  # each is a neighbour of the other
    assert counts.sum() == pytest.approx(2 * (1 + 0.5 + 1 / 3 + 1.5) + 2)


def test_the_information_is_that_of_the_paper() -> None:
    counts = _neighbours(SPLIT, 40)
    dense = counts.toarray()
    shares = dense.sum(axis=0) ** SMOOTHING / (dense.sum(axis=0) ** SMOOTHING).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.log(dense / dense.sum() / (dense.sum(axis=1) / dense.sum())[:, None] / shares)
    expected = np.nan_to_num(np.maximum(expected, 0.0))
    np.testing.assert_allclose(_ppmi(counts).toarray(), expected, rtol=1e-5)


@pytest.mark.parametrize("reviews", [[], [[START]], [[START, OOV, 5]]])
def test_reviews_without_neighbours_give_zeros(reviews: list[list[int]]) -> None:
    assert not ppmi_vectors(make_split(reviews, [0] * len(reviews)), 8, 3).any()


def test_vectors_may_be_larger_than_the_vocabulary() -> None:
    vectors = ppmi_vectors(make_split([[4, 5, 6, 4]], [0]), 7, 10)
    assert vectors.shape == (7, 10)
    assert np.isfinite(vectors).all()
    assert not vectors[:, 6:].any()
