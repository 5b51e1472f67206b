"""Divide reviews into training and test parts, each in a mixed order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import Index

Codes = npt.NDArray[np.int8]

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


def divide(labels: Codes, parts: Codes, test_share: float, seed: int) -> tuple[Index, Index]:
    """Return the row numbers for training and for testing, each shuffled.

    If no row is for testing, a share of each label's training rows is taken. All labels are
    spread evenly over the order, so every slice of it has about the proportions of the whole.
    Rows for validation come last in training, because the last training rows validate.

    Args:
        labels: of each row, from 0 on, (n,).
        parts: TRAIN, VALIDATION or TEST for each row, (n,).
        test_share: from 0 to 1.
        seed: the same seed gives the same result, with any version of NumPy.
    """
    rng = np.random.RandomState(seed)
    train, validation, test = (
        _mixed(np.flatnonzero(parts == part), labels, rng) for part in (TRAIN, VALIDATION, TEST)
    )
    if not len(test):
        by_label = [train[labels[train] == label] for label in _labels(labels)]
        cuts = [_share(len(rows), test_share) for rows in by_label]
        chosen = np.concatenate([rows[:cut] for rows, cut in zip(by_label, cuts, strict=True)])
        test = _mixed(chosen, labels, rng)
        train = train[~np.isin(train, test)]
    return np.concatenate([train, validation]), test


def _labels(labels: Codes) -> range:
    return range(max(2, int(labels.max(initial=0)) + 1))


def _share(rows: int, share: float) -> int:
    """Return how many of ``rows`` are for testing: at least one, but not all."""
    return min(max(round(rows * share), 1), rows - 1) if rows else 0


def _mixed(rows: Index, labels: Codes, rng: np.random.RandomState) -> Index:
    """Return ``rows`` shuffled, with all labels spread evenly."""
    places = np.empty(len(rows))
    for label in _labels(labels):
        own = np.flatnonzero(labels[rows] == label)
        # One row of a label for each of n equal intervals, at a random place in it.
        in_order = (np.arange(len(own)) + rng.random_sample(len(own))) / max(len(own), 1)
        places[rng.permutation(own)] = in_order
    return rows[np.argsort(places, kind="stable")]
