"""The accuracy of a model by the length of the reviews: is one kind of review neglected?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GROUPS = 4


@dataclass(frozen=True)
class LengthGroup:
    """A quarter of the validation reviews, by their length.

    Args:
        shortest: tokens of its shortest review.
        longest: tokens of its longest review.
        reviews: how many they are.
        accuracy: on these.
    """

    shortest: int
    longest: int
    reviews: int
    accuracy: float


def accuracy_by_length(
    right: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]
) -> tuple[LengthGroup, ...]:
    """Return the groups from the shortest to the longest reviews; fewer if there are few reviews.

    Args:
        right: (reviews,), whether each is classified right.
        lengths: (reviews,), in tokens, before they are cut to maxlen.
    """
    parts = np.array_split(np.argsort(lengths, kind="stable"), min(GROUPS, len(lengths)))
    return tuple(
        LengthGroup(
            int(lengths[part[0]]), int(lengths[part[-1]]), len(part), float(right[part].mean())
        )
        for part in parts
    )
