"""The stratified folds of a cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdbtune.data.corpus import START, Split, make_split
from imdbtune.data.folds import NO_FOLDS, Folds
from imdbtune.errors import UserError


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(2, 12), st.integers(0, 2**31)
)
def test_folds_share_rows_and_labels_evenly(labels: list[int], count: int, seed: int) -> None:
    """Any whole numbers are labels; each row validates in one fold, and trains in the others."""
    values, folds = np.array(labels), Folds(count, seed)
    of = folds.assign(values)
    assert np.array_equal(of, Folds(count, seed).assign(values))
    assert np.ptp(np.bincount(of, minlength=count)) <= 1
    for label in set(labels):
        assert np.ptp(np.bincount(of[values == label], minlength=count)) <= 1
    for fold in range(count):
        training, validation = folds.rows(values, fold)
        assert np.array_equal(validation, np.flatnonzero(of == fold))
        assert sorted([*training, *validation]) == list(range(len(labels)))


def test_they_are_the_same_forever_and_others_with_another_seed() -> None:
    labels = np.array([0, 1] * 6)
    assert Folds(3, 0).assign(labels).tolist() == [1, 0, 2, 0, 1, 1, 0, 1, 2, 2, 0, 2]
    assert Folds(3, 1).assign(labels).tolist() != Folds(3, 0).assign(labels).tolist()


def split_of(*counts: int) -> Split:
    """Return reviews, so many of each label, those of the last label at the end."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return make_split([[START]] * len(labels), labels)


def test_more_folds_than_reviews_of_a_label_are_refused() -> None:
    Folds(4).check(split_of(9, 4, 5), 0)
    NO_FOLDS.check(split_of(1), 0)
    with pytest.raises(UserError, match=r"^folds = 5 is too many: .* has 4; give from 2 to 4, or"):
        Folds(5).check(split_of(9, 4, 5), 0)
    with pytest.raises(UserError, match=r"has 2; give 2, or more reviews\.$"):
        Folds(4).check(split_of(9, 2, 5), 0)
    with pytest.raises(UserError, match=r"has 1; give no folds, or more reviews\.$"):
        Folds(4).check(split_of(9, 4, 5), 10)
