"""Which reviews are for training and which for testing, and in what order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


def divide(labels: Codes, parts: Codes, test_share: float, seed: int) -> tuple[Index, Index]:
    """Numbers of the rows for training and for testing, each shuffled.

    Where no row is for testing, a share of each label's is taken out of those for training. Both
    labels are spread evenly over the order, so every stretch of it has about as much of each as
    the whole. Rows for validation come last in training, whose last ones validate it.

    Args:
        labels: 0 or 1 for each row.
        parts: TRAIN, VALIDATION or TEST for each row.
        test_share: from 0 to 1.
        seed: the same seed gives the same result, with any version of NumPy.
    """
    rng = np.random.RandomState(seed)
    train, validation, test = (
        _mixed(np.flatnonzero(parts == part), labels, rng) for part in (TRAIN, VALIDATION, TEST)
    )
    if not len(test):
        ours = [train[labels[train] == label] for label in (0, 1)]
        cuts = [_share(len(rows), test_share) for rows in ours]
        chosen = np.concatenate([rows[:cut] for rows, cut in zip(ours, cuts, strict=True)])
        test = _mixed(chosen, labels, rng)
        train = train[~np.isin(train, test)]
    return np.concatenate([train, validation]), test


def _share(rows: int, share: float) -> int:
    """How many of ``rows`` are for testing: at least one, but never all."""
    return min(max(round(rows * share), 1), rows - 1) if rows else 0


def _mixed(rows: Index, labels: Codes, rng: np.random.RandomState) -> Index:
    """``rows`` shuffled, both labels spread evenly."""
    places = np.empty(len(rows))
    for label in (0, 1):
        (own,) = np.nonzero(labels[rows] == label)
        places[rng.permutation(own)] = (np.arange(len(own)) + rng.random_sample(len(own))) / max(
            len(own), 1
        )
    return rows[np.argsort(places, kind="stable")]
