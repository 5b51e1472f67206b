"""The accuracy by length of review."""

from __future__ import annotations

import numpy as np

from imdbtune.training.length_groups import LengthGroup, accuracy_by_length


def test_reviews_are_divided_into_quarters_from_short_to_long() -> None:
    lengths = np.array([50, 3, 700, 20, 9, 300, 40, 100])
    right = np.array([True, False, True, True, False, False, True, True])
    assert accuracy_by_length(right, lengths) == (
        LengthGroup(3, 9, 2, 0.0),
        LengthGroup(20, 40, 2, 1.0),
        LengthGroup(50, 100, 2, 1.0),
        LengthGroup(300, 700, 2, 0.5),
    )


def test_each_review_counts_once_however_few_there_are() -> None:
    for count in (1, 2, 3, 5, 11):
        found = accuracy_by_length(np.ones(count, bool), np.arange(count))
        assert sum(group.reviews for group in found) == count
        assert all(group.accuracy == 1.0 for group in found)
