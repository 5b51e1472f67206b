"""The folds of a cross-validation: each holds out other reviews, with the shares of all labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import Index, limit_rows
from imdbtune.data.corpus import Split
from imdbtune.errors import UserError

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Folds:
    """Stratified folds, a pure function of their number, their seed and the labels.

    Args:
        count: number of folds; 0: there are none, and the last reviews validate.
        seed: of the division.
    """

    count: int = 0
    seed: int = 0

    def assign(self, labels: Labels) -> Index:
        """Return the fold of each row, from 0, (n,).

        The rows of each label are shuffled and dealt out in turn, going on with the fold after that
        of the last row of the label before. So the sizes of the folds differ by at most one, and so
        do their numbers of rows with a label.

        Args:
            labels: whole numbers, (n,).
        """
        rng = np.random.RandomState(self.seed)  # the same with any version of NumPy
        folds = np.empty(len(labels), np.int64)
        dealt = 0
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            folds[rows] = (dealt + np.arange(len(rows))) % self.count
            dealt += len(rows)
        return folds

    def rows(self, labels: Labels, fold: int) -> tuple[Index, Index]:
        """Return the row numbers that train and that validate in a fold, each in order."""
        held_out = self.assign(labels) == fold
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def check(self, split: Split, reviews: int) -> None:
        """Raise UserError if a label has fewer rows than there are folds.

        Args:
            split: the training reviews.
            reviews: how many of them are used; 0: all.
        """
        if not self.count:
            return
        used = split.labels[: limit_rows(len(split), reviews)]
        counts = np.unique(used, return_counts=True)[1]
        smallest = int(counts.min()) if len(counts) else 0
        if self.count > smallest:
            several = "2" if smallest == 2 else f"from 2 to {smallest}"
            allowed = several if smallest > 1 else "no folds"
            raise UserError(
                f"folds = {self.count} is too many: the label with the fewest training reviews has "
                f"{smallest}; give {allowed}, or more reviews."
            )


NO_FOLDS = Folds()
