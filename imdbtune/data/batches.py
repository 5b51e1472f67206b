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
# The last of an epoch, one in so many, go from long to short. Batches of long reviews move a model
# most; by an epoch that ended with one the model was judged up to nine points of accuracy too low.
CALM = 6


def limit_rows(available: int, reviews: int) -> int:
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
    return _padded(split, split.offsets[rows], split.offsets[rows + 1], maxlen, vocabulary)


def _padded(split: Split, starts: Index, ends: Index, maxlen: int, vocabulary: int) -> IntArray:
    starts = np.maximum(starts, ends - maxlen)
    ids = np.full((len(ends), maxlen), PAD, np.int32)
    if len(ends):
        pieces = [split.tokens[a:b] for a, b in zip(starts, ends, strict=True)]
        words = np.concatenate(pieces)
        inside = np.arange(maxlen) >= (maxlen - (ends - starts))[:, None]
        ids[inside] = np.where(words < vocabulary, words, OOV)
    return ids


@dataclass(frozen=True)
class Batches:
    """The batches of one set of reviews, all of shape (batch_size, maxlen).

    The last batch is filled up with rows of weight 0. The equal weight of all others makes
    the mean over batches the mean over reviews.

    Args:
        split: with the reviews.
        rows: which of them.
        batch_size: reviews in a batch.
        maxlen: tokens that a review is cut or padded to.
        vocabulary: ids from here on are the unknown word.
        targets: what is to be learned of each review, (rows,); without: its label.
        word_dropout: share of the words that the unknown word takes the place of in training.
        crop: tokens at most that are seen of a review in training, from a random place on; 0: its
            last ``maxlen``.
    """

    split: Split
    rows: Index
    batch_size: int
    maxlen: int
    vocabulary: int
    targets: FloatArray | None = None
    word_dropout: float = 0.0
    crop: int = 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def epoch(
        self, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
        """``(ids (batch, maxlen), labels (batch, 1), weights (batch,))``; ``rng``: for training.

        Without it nothing is shuffled, dropped or cropped.
        """
        weight = len(self) * self.batch_size / len(self.rows)
        wanted = self.split.labels[self.rows] if self.targets is None else self.targets
        labels = np.zeros(len(self.split), np.float32)
        labels[self.rows] = wanted
        for chosen in self.plan(rng):
            weights = np.zeros(self.batch_size, np.float32)
            weights[: len(chosen)] = weight
            filled = np.resize(chosen, self.batch_size)
            yield self._ids(filled, rng), labels[filled][:, None], weights

    def _ids(self, rows: Index, rng: np.random.Generator | None) -> IntArray:
        if rng is None:
            return pad(self.split, rows, self.maxlen, self.vocabulary)
        starts, ends = self.split.offsets[rows], self.split.offsets[rows + 1]
        if self.crop:
            spare = np.maximum(ends - starts - self.crop, 0)
            starts = starts + rng.integers(0, spare, endpoint=True)
            ends = np.minimum(ends, starts + self.crop)
        ids = _padded(self.split, starts, ends, self.maxlen, self.vocabulary)
        if self.word_dropout:
            ids[(rng.random(ids.shape) < self.word_dropout) & (ids != PAD)] = OOV
        return ids

    def plan(self, rng: np.random.Generator | None = None) -> list[Index]:
        """Which rows make up each batch.

        The shuffled reviews are cut into pools of some batches, each pool is sorted by length
        and cut into batches, and the batches are shuffled; the last sixth of them goes from long
        to short. Without ``rng``: sorted by length.
        """
        order = self.rows if rng is None else rng.permutation(self.rows)
        length = self._lengths(rng)
        size = len(order) if rng is None else POOL * self.batch_size
        plan: list[Index] = []
        for first in range(0, len(order), size):
            pool = order[first : first + size]
            pool = pool[np.argsort(length[pool], kind="stable")]
            plan += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        if rng is None:
            return plan
        plan = [plan[i] for i in rng.permutation(len(plan))]
        calm = len(plan) - len(plan) // CALM
        return plan[:calm] + sorted(plan[calm:], key=lambda rows: -int(length[rows].max()))

    def time_steps(self, rng: np.random.Generator | None = None) -> int:
        """Those of an epoch's batches in all: each has as many as its longest review."""
        length = self._lengths(rng)
        return sum(int(length[rows].max()) for rows in self.plan(rng))

    def _lengths(self, rng: np.random.Generator | None) -> Index:
        """How much of each review of the split is seen, in training with ``rng``."""
        seen = self.crop if rng is not None and self.crop else self.maxlen
        return np.minimum(self.split.lengths, min(seen, self.maxlen))
