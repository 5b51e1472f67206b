"""Which label a model takes for which: the confusion matrix of more than two labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelRow:
    """How a model does on the reviews of one label.

    Args:
        label: its name.
        reviews: how many they are.
        recall: share of them that get their label; 0 without reviews.
        precision: share of the reviews that get this label and have it; 0 if none gets it.
        taken_for: the label that most of the others get, and how many; empty: there are no others.
    """

    label: str
    reviews: int
    recall: float
    precision: float
    taken_for: tuple[str, int] | tuple[()]


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix of the validation reviews.

    Args:
        labels: their names.
        counts: reviews by their label (rows) and by the predicted one (columns).
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> list[LabelRow]:
        """The labels in their order."""
        table = np.array(self.counts)
        return [self._row(table, number) for number in range(len(self.labels))]

    def _row(self, table: npt.NDArray[np.int64], number: int) -> LabelRow:
        right, reviews = int(table[number, number]), int(table[number].sum())
        others = table[number].copy()
        others[number] = 0
        most = int(others.argmax())
        return LabelRow(
            self.labels[number],
            reviews,
            right / max(1, reviews),
            right / max(1, int(table[:, number].sum())),
            (self.labels[most], int(others[most])) if others.any() else (),
        )


def confusion_of(
    labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], names: Sequence[str]
) -> Confusion:
    """Return the matrix of labels and predicted ones, (reviews,) each, as indices of ``names``."""
    table = np.zeros((len(names), len(names)), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return Confusion(tuple(names), tuple(map(tuple, table.tolist())))
