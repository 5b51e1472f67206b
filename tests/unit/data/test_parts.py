"""How rows are divided, and what labels are called."""

from __future__ import annotations

import numpy as np
import pytest

from imdbtune.data.batches import validation_split
from imdbtune.data.labels import label_name, order_labels
from imdbtune.data.parts import NAMES, TEST, TRAIN, VALIDATION, divide
from imdbtune.errors import UserError


def codes(*runs: tuple[int, int]) -> np.ndarray:
    """``(value, times)`` one after the other."""
    return np.concatenate([np.full(times, value, np.int8) for value, times in runs])


def test_a_share_of_each_label_is_for_testing_and_no_row_is_lost() -> None:
    labels = codes((0, 300), (1, 100))
    train, test = divide(labels, np.zeros(400, np.int8), 0.2, seed=0)
    assert np.bincount(labels[test]).tolist() == [60, 20]
    assert sorted([*train, *test]) == list(range(400))


def test_every_stretch_of_the_training_rows_has_both_labels_in_proportion() -> None:
    labels = codes((0, 3000), (1, 1000))
    train, _ = divide(labels, np.zeros(4000, np.int8), 0.2, seed=3)
    shares = [labels[part].mean() for part in np.array_split(train, 16)]
    assert np.allclose(shares, 0.25, atol=0.02)
    assert len({tuple(np.diff(part)) for part in np.array_split(train, 16)}) == 16
    assert not np.array_equal(train, np.sort(train))


def test_several_labels_are_divided_and_validated_in_proportion() -> None:
    counts = [400, 200, 100, 50, 10]
    labels = codes(*enumerate(counts))
    train, test = divide(labels, np.zeros(len(labels), np.int8), 0.2, seed=1)
    assert np.bincount(labels[test]).tolist() == [80, 40, 20, 10, 2]
    validated = np.bincount(labels[train[validation_split(len(train))[1]]], minlength=5)
    assert np.abs(validated - np.array(counts) * 0.8 * 0.2).max() <= 2
    assert validated.all()


def test_the_same_seed_divides_in_the_same_way() -> None:
    labels = codes((0, 5), (1, 5))
    first, again, other = (divide(labels, labels * 0, 0.2, seed) for seed in (0, 0, 1))
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert first[0].tolist() != other[0].tolist()
    assert [part.tolist() for part in first] == [[8, 3, 4, 5, 9, 0, 2, 6], [7, 1]]


def test_given_parts_are_respected() -> None:
    labels = np.tile(np.array([0, 1], np.int8), 20)
    parts = codes((TEST, 10), (TRAIN, 30))
    train, test = divide(labels, parts, 0.5, seed=0)
    assert sorted(test) == list(range(10))
    assert sorted(train) == list(range(10, 40))


def test_rows_for_validation_come_last_in_training() -> None:
    labels = np.tile(np.array([0, 1], np.int8), 50)
    parts = codes((VALIDATION, 16), (TRAIN, 64), (TEST, 20))
    train, _ = divide(labels, parts, 0.2, seed=0)
    assert sorted(train[validation_split(len(train))[1]]) == list(range(16))


def test_the_smallest_table_has_a_row_of_each_label_in_each_part() -> None:
    labels = np.array([0, 1, 0, 1], np.int8)
    for share in (0.01, 0.9):
        train, test = divide(labels, labels * 0, share, seed=0)
        assert sorted(labels[train]) == sorted(labels[test]) == [0, 1]


def test_parts_have_the_names_that_people_use() -> None:
    assert {NAMES[name] for name in ("train", "training")} == {TRAIN}
    assert {NAMES[name] for name in ("val", "valid", "dev", "validation")} == {VALIDATION}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((True, "true"), (0, "0"), (1.0, "1"), (" good ", "good"), ("1.0", "1.0"), ("", "")),
        *((None, ""), (0.5, ""), ([1], ""), (float("nan"), ""), ("a\nb", ""), ("x" * 101, "")),
    ],
)
def test_labels_are_called_as_they_are_written(value: object, name: str) -> None:
    assert label_name(value) == name


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("pos", "neg"), ("neg", "pos")),
        (("Good", "Bad"), ("Bad", "Good")),
        (("good", "awful"), ("awful", "good")),
        (("true", "false"), ("false", "true")),
        (("no", "yes"), ("no", "yes")),
        (("10", "2"), ("2", "10")),
        (("1", "-1"), ("-1", "1")),
        (("1", "2"), ("1", "2")),
        (("neg", "other"), ("neg", "other")),
        (("other", "neg"), ("neg", "other")),
        (("spam", "ham"), ("ham", "spam")),
    ],
)
def test_the_positive_label_is_known_by_its_meaning(
    names: tuple[str, str], ordered: tuple[str, str]
) -> None:
    assert order_labels(names) == order_labels(names[::-1]) == ordered
    assert order_labels(names, positive=ordered[0]) == ordered[::-1]


def test_a_positive_label_that_does_not_occur_is_refused() -> None:
    with pytest.raises(UserError, match=r"positive label 'spma' .*Did you mean 'spam'"):
        order_labels(("ham", "spam"), "spma")
