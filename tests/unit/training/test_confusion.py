"""The confusion matrix, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from imdbtune.training.confusion import confusion_of

NAMES = ("art", "news", "sport", "travel")


def test_recall_and_precision_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, (2, 200)).astype(np.int8)
    found = confusion_of(labels, predicted, NAMES)
    assert np.array(found.counts).tolist() == (
        confusion_matrix(labels, predicted, labels=range(4)).tolist()
    )
    options = {"labels": range(4), "average": None, "zero_division": 0}
    assert [row.recall for row in found.rows] == pytest.approx(
        recall_score(labels, predicted, **options)
    )
    assert [row.precision for row in found.rows] == pytest.approx(
        precision_score(labels, predicted, **options)
    )
    assert sum(row.reviews for row in found.rows) == 200


def test_the_most_frequent_mistake_is_named() -> None:
    labels = np.array([0, 0, 0, 0, 1, 2])
    found = confusion_of(labels, np.array([0, 2, 2, 1, 1, 0]), NAMES)
    assert [row.taken_for for row in found.rows] == [("sport", 2), (), ("art", 1), ()]
