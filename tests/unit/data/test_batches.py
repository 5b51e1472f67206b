from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from imdbtune.data.batches import Batches, pad, validation_split
from imdbtune.data.corpus import OOV, PAD, START, Split, make_split

MAXLEN = 500


def reviews_of(lengths: npt.NDArray[np.int64]) -> Split:
    """Reviews that say who they are: START, then the row's number + 3 again and again."""
    rows = [[START, *[i + 3] * (n - 1)] for i, n in enumerate(lengths)]
    return make_split(rows, np.arange(len(rows)) % 2)


def row_numbers(ids: npt.NDArray[np.int32]) -> list[int]:
    """The rows of ``reviews_of`` that a batch holds."""
    return (ids[:, -1] - 3).tolist()


@pytest.fixture(scope="module")
def split() -> Split:
    """1,000 reviews as long as IMDB's: median near 180 words, a long tail."""
    rng = np.random.default_rng(0)
    return reviews_of(np.clip(rng.lognormal(5.2, 0.6, 1000), 10, 2500).astype(int))


@pytest.fixture(scope="module")
def batches(split: Split) -> Batches:
    return Batches(split, np.arange(100, 950), 32, MAXLEN, vocabulary=10_000)


def keras_padded(review: list[int], maxlen: int) -> list[int]:
    """What ``pad_sequences`` documents: too long is cut, too short is filled, at the front."""
    ids = review[-maxlen:]
    return [0] * (maxlen - len(ids)) + ids


@pytest.mark.parametrize("maxlen", [1, 3, 4, 9])
def test_reviews_are_cut_and_padded_at_the_front(maxlen: int) -> None:
    reviews = [[1, 4, 5], [1], [1, 6, 7, 8, 9], [1, 4, 6, 8]]
    rows = np.array([2, 0, 1, 3, 0])
    ids = pad(make_split(reviews, [0] * 4), rows, maxlen, vocabulary=100)
    assert ids.tolist() == [keras_padded(reviews[row], maxlen) for row in rows]
    assert ids.dtype == np.int32


def test_ids_from_the_vocabulary_on_become_the_unknown_word() -> None:
    corpus = make_split([[1, 9, 10, 11, 88_000]], [1])
    assert pad(corpus, np.array([0]), 6, vocabulary=10).tolist() == [[PAD, 1, 9, OOV, OOV, OOV]]
    assert corpus.tokens.tolist() == [1, 9, 10, 11, 88_000]


@pytest.mark.parametrize(
    ("rows", "first"), [(25_000, 20_000), (10, 8), (9, 7), (5, 4), (2, 1), (240, 192)]
)
def test_the_last_fifth_is_held_out(rows: int, first: int) -> None:
    part, held_out = validation_split(rows)
    assert (len(part), held_out[0], held_out[-1]) == (first, first, rows - 1)
    assert [*part, *held_out] == list(range(rows))


@pytest.mark.parametrize("shuffled", [True, False])
def test_an_epoch_holds_every_review_exactly_once(batches: Batches, shuffled: bool) -> None:
    rng = np.random.default_rng(1) if shuffled else None
    seen: list[int] = []
    for ids, labels, weights in batches.epoch(rng):
        assert (ids.shape, labels.shape, weights.shape) == ((32, MAXLEN), (32, 1), (32,))
        assert (ids.dtype, labels.dtype, weights.dtype) == ("int32", "float32", "float32")
        np.testing.assert_array_equal(labels[:, 0], np.array(row_numbers(ids)) % 2)
        seen += np.array(row_numbers(ids))[weights > 0].tolist()
    assert sorted(seen) == batches.rows.tolist()
    assert len(batches) == len(list(batches.epoch())) == 27


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 100, 850])
def test_the_mean_over_weighted_batches_is_the_mean_over_reviews(
    split: Split, batches: Batches, rows: int
) -> None:
    some = Batches(split, batches.rows[:rows], 32, MAXLEN, 10_000)
    loss = np.random.default_rng(2).random(len(split))
    epoch = list(some.epoch(np.random.default_rng(3)))
    means = [(loss[row_numbers(ids)] * weights).mean() for ids, _, weights in epoch]
    assert np.mean(means) == pytest.approx(loss[some.rows].mean(), rel=1e-6)
    weights = np.concatenate([weights for _, _, weights in epoch])
    assert len(set(weights[weights > 0])) == 1
    assert (weights > 0).sum() == rows


def order(batches: Batches, rng: np.random.Generator) -> list[list[int]]:
    return [row_numbers(ids) for ids, _, _ in batches.epoch(rng)]


def test_each_epoch_is_another_order_and_a_seed_repeats_them_all(batches: Batches) -> None:
    rng, again, other = (np.random.default_rng(seed) for seed in (5, 5, 6))
    first, second = order(batches, rng), order(batches, rng)
    assert [order(batches, again), order(batches, again)] == [first, second]
    assert {frozenset(rows) for rows in first} != {frozenset(rows) for rows in second}
    assert order(batches, other) != first


def test_without_shuffling_the_shortest_come_first(split: Split, batches: Batches) -> None:
    lengths = [split.lengths[row_numbers(ids)] for ids, _, weights in batches.epoch()]
    longest = [min(batch.max(), MAXLEN) for batch in lengths]
    assert longest == sorted(longest)


def columns(ids: npt.NDArray[np.int32]) -> int:
    """Time steps that a batch costs: from its first column with a word on."""
    return MAXLEN - int((ids != PAD).any(axis=0).argmax())


def test_like_lengths_go_together(split: Split, batches: Batches) -> None:
    rng = np.random.default_rng(7)
    needed = np.minimum(split.lengths[batches.rows], MAXLEN).mean()
    mixed = rng.permutation(batches.rows)[: 26 * 32].reshape(26, 32)
    at_random = np.mean([columns(pad(split, rows, MAXLEN, 10_000)) for rows in mixed])
    sorted_by_pool = np.mean([columns(ids) for ids, _, _ in batches.epoch(rng)])
    assert sorted_by_pool < 1.15 * needed
    assert at_random > 1.8 * needed


def test_batches_are_shuffled_although_reviews_are_sorted(batches: Batches) -> None:
    costs = [columns(ids) for ids, _, _ in batches.epoch(np.random.default_rng(8))]
    early, late = np.mean(costs[:13]), np.mean(costs[13:])
    assert abs(early - late) < 0.5 * np.mean(costs)
    assert costs != sorted(costs)


def test_an_epoch_ends_from_long_to_short(batches: Batches) -> None:
    costs = [columns(ids) for ids, _, _ in batches.epoch(np.random.default_rng(8))]
    last = costs[-(len(costs) // 6) :]
    assert len(last) == 4
    assert last == sorted(last, reverse=True)
    before = costs[: -len(last)]
    assert before[-4:] != sorted(before[-4:], reverse=True)


def test_without_a_calm_end_the_last_batches_are_as_shuffled_as_the_others(
    batches: Batches,
) -> None:
    shuffled = replace(batches, calm=False)
    costs = [columns(ids) for ids, _, _ in shuffled.epoch(np.random.default_rng(8))]
    assert costs[-4:] != sorted(costs[-4:], reverse=True)
    calm = [columns(ids) for ids, _, _ in batches.epoch(np.random.default_rng(8))]
    assert costs[:-4] == calm[:-4]
    assert sorted(costs) == sorted(calm)


def test_word_dropout_replaces_its_share_of_the_words(split: Split, batches: Batches) -> None:
    rng = np.random.default_rng(9)
    ids = np.concatenate([ids for ids, _, _ in replace(batches, word_dropout=0.3).epoch(rng)])
    unknown, padding = (ids == OOV).sum(), (ids == PAD).sum()
    assert unknown / (ids.size - padding) == pytest.approx(0.3, abs=0.01)
    ids = np.concatenate([ids for ids, _, _ in batches.epoch(np.random.default_rng(9))])
    assert (ids == PAD).sum() == padding
    assert not (ids == OOV).any()


def test_validation_knows_no_word_dropout(batches: Batches) -> None:
    assert not any((ids == OOV).any() for ids, _, _ in replace(batches, word_dropout=0.9).epoch())


def test_a_step_sees_another_part_of_a_long_review_each_time() -> None:
    reviews = [[START, *range(10 * n, 11 * n)] for n in (99, 5, 19)]
    batches = Batches(make_split(reviews, [0, 1, 0]), np.arange(3), 3, 50, 2000, crop=20)
    rng, starts = np.random.default_rng(11), set()
    for _ in range(40):
        ((ids, _, _),) = batches.epoch(rng)
        parts = [[i for i in row if i] for row in ids.tolist()]
        assert sorted(map(len, parts)) == [6, 20, 20]
        assert reviews[1] in parts
        assert reviews[2] in parts  # just as long as a part
        (part,) = [part for part in parts if part not in reviews]
        first = reviews[0].index(part[0])
        assert part == reviews[0][first : first + 20]
        starts.add(first)
    assert len(starts) > 20
    assert min(starts) < 10
    assert max(starts) > 70
    ((ids, _, _),) = batches.epoch()
    assert reviews[0][-50:] in ids.tolist()


def test_of_a_part_that_is_longer_the_last_words_are_seen(split: Split) -> None:
    batches = Batches(split, np.arange(64), 32, 30, 10_000, crop=10_000)
    plain = replace(batches, crop=0)
    epochs = (b.epoch(np.random.default_rng(1)) for b in (batches, plain))
    for (ids, *_), (same, *_) in zip(*epochs, strict=True):
        np.testing.assert_array_equal(ids, same)


def test_what_is_to_be_learned_may_be_another_thing_than_labels(batches: Batches) -> None:
    targets = np.linspace(0, 1, len(batches.rows), dtype=np.float32)
    rng = np.random.default_rng(12)
    for ids, labels, _ in replace(batches, targets=targets).epoch(rng):
        wanted = targets[np.array(row_numbers(ids)) - batches.rows[0]]
        np.testing.assert_array_equal(labels[:, 0], wanted)


def test_targets_may_have_a_column_for_each_label_and_reviews_a_weight(split: Split) -> None:
    rows = np.arange(100, 200)
    targets = np.eye(3, dtype=np.float32)[rows % 3]
    row_weights = (1 + rows % 3).astype(np.float32)
    batches = Batches(split, rows, 32, MAXLEN, 10_000, targets, row_weights)
    assert batches.target_width == 3
    for ids, found, weights in batches.epoch(np.random.default_rng(0)):
        shown = np.array(row_numbers(ids))
        np.testing.assert_array_equal(found.argmax(axis=1), shown % 3)
        counted = weights > 0
        np.testing.assert_allclose(weights[counted], 1.28 * (1 + shown[counted] % 3), rtol=1e-6)
