"""Reviews as rectangular batches: cut and padded as Keras does it, like length with like.

Most reviews are short, and a batch costs as many time steps as its longest review. So reviews
of like length go together; the recurrence skips the columns that are padding in every row of
a batch, and masks the rest, so company never changes a prediction. All batches have one shape,
which XLA compiles once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imdbtune.data.corpus import OOV, PAD, Split

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

VALIDATION_SHARE = 0.2
POOL = 24  # batches whose reviews are sorted together: less padding, yet well shuffled


def used(available: int, reviews: int) -> int:
    """How many of the training reviews a search uses that is told to take ``reviews`` (0: all)."""
    return min(available, reviews or available)


def validation_split(rows: int) -> tuple[Index, Index]:
    """Row numbers for training and validation: the last 20 %, as ``validation_split=0.2`` does."""
    first = int(rows * (1.0 - VALIDATION_SHARE))
    return np.arange(first), np.arange(first, rows)


def pad(split: Split, rows: Index, maxlen: int, vocabulary: int) -> IntArray:
    """Reviews ``rows`` as ids of shape (rows, maxlen), cut and padded at the front.

    Ids from ``vocabulary`` on become the unknown word, as in ``load_data(num_words=...)``.
    """
    starts, ends = split.offsets[rows], split.offsets[rows + 1]
    at = ends[:, None] - np.arange(maxlen, 0, -1)[None, :]
    inside = at >= starts[:, None]
    ids = np.where(inside, split.tokens[np.where(inside, at, 0)], PAD)
    ids[ids >= vocabulary] = OOV
    return ids.astype(np.int32, copy=False)


@dataclass(frozen=True)
class Batches:
    """The batches of one set of reviews, all of shape (batch_size, maxlen).

    The last batch is filled up with rows of weight 0. The equal weight of all others makes
    the mean over batches the mean over reviews.
    """

    split: Split
    rows: Index
    batch_size: int
    maxlen: int
    vocabulary: int

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def epoch(
        self, rng: np.random.Generator | None = None, word_dropout: float = 0.0
    ) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
        """``(ids (batch, maxlen), labels (batch, 1), weights (batch,))``, shuffled by ``rng``.

        A share of ``word_dropout`` of the words is replaced by the unknown word.
        """
        weight = len(self) * self.batch_size / len(self.rows)
        for chosen in self.plan(rng):
            weights = np.zeros(self.batch_size, np.float32)
            weights[: len(chosen)] = weight
            filled = np.resize(chosen, self.batch_size)
            ids = pad(self.split, filled, self.maxlen, self.vocabulary)
            if rng is not None and word_dropout:
                ids[(rng.random(ids.shape) < word_dropout) & (ids != PAD)] = OOV
            yield ids, self.split.labels[filled].astype(np.float32)[:, None], weights

    def plan(self, rng: np.random.Generator | None = None) -> list[Index]:
        """Which rows make up each batch.

        The shuffled reviews are cut into pools of some batches, each pool is sorted by length
        and cut into batches, and the batches are shuffled. Without ``rng``: sorted by length.
        """
        order = self.rows if rng is None else rng.permutation(self.rows)
        length = np.minimum(self.split.lengths, self.maxlen)
        size = len(order) if rng is None else POOL * self.batch_size
        plan: list[Index] = []
        for first in range(0, len(order), size):
            pool = order[first : first + size]
            pool = pool[np.argsort(length[pool], kind="stable")]
            plan += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        if rng is None:
            return plan
        return [plan[i] for i in rng.permutation(len(plan))]
