"""Reviews as rectangular batches: cut and padded as Keras does, grouped by length.

Most reviews are short, and a batch costs as many time steps as its longest review, so reviews of
similar length share a batch. The recurrence skips the columns that are padding in every row and
masks the rest: a prediction does not depend on the other reviews of the batch. All batches have
one shape, which XLA compiles once.
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
POOL = 24  # batches whose reviews are sorted together: little padding, but well shuffled
# The last 1/CALM of an epoch's batches go from long to short, if its end is to be calm. Batches of
# long reviews change a model most: after an epoch that ended with one, accuracy was up to nine
# points too low.
CALM = 6
LONGEST_NGRAM = 3  # words of the n-grams that have further inputs


def limit_rows(available: int, reviews: int) -> int:
    """Return how many training reviews a search with ``data.reviews = reviews`` uses (0: all)."""
    return min(available, reviews or available)


def validation_split(rows: int, share: float = VALIDATION_SHARE) -> tuple[Index, Index]:
    """Return row numbers for training and validation: the last 20 %, as Keras splits them."""
    first = int(rows * (1.0 - share))
    return np.arange(first), np.arange(first, rows)


def pad(split: Split, rows: Index, maxlen: int, vocabulary: int) -> IntArray:
    """Return the ids of reviews ``rows``, (rows, maxlen), cut and padded at the front.

    Ids from ``vocabulary`` on become ``OOV``, as in ``load_data(num_words=...)``.
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
    """The batches of one set of reviews, all of shape (batch_size, ``width``).

    The last batch is filled up with rows of weight 0. The others have equal weights, chosen so
    that the mean over batches is the mean over reviews.

    Args:
        split: the reviews.
        rows: numbers of the reviews to use.
        batch_size: reviews in a batch.
        maxlen: tokens that a review is cut or padded to.
        vocabulary: ids from here on become ``OOV``.
        targets: training targets, (rows,), or (rows, classes); None: the labels.
        row_weights: of the reviews in training, (rows,), with a mean of 1; None: all are 1.
        word_dropout: share of the words that become ``OOV`` in training.
        crop: tokens of each review that a training step sees at most, from a random position on;
            0: its last ``maxlen``.
        calm: whether an epoch ends with batches of shorter and shorter reviews.
        fixed: batches have ``maxlen`` columns also where windows are shorter.
        inputs: further inputs for the words, pairs and triples that begin at each token of the
            split, (tokens, 3 * k), in this order.
        input_dropout: share of them that is 0 in training.
    """

    split: Split
    rows: Index
    batch_size: int
    maxlen: int
    vocabulary: int
    targets: FloatArray | None = None
    row_weights: FloatArray | None = None
    word_dropout: float = 0.0
    crop: int = 0
    calm: bool = True
    fixed: bool = False
    inputs: FloatArray | None = None
    input_dropout: float = 0.0

    def width(self, rng: np.random.Generator | None) -> int:
        """Return the columns of a batch: ``maxlen``, or those of the window in training."""
        return self.maxlen if self.fixed else self._shown(rng)

    def _shown(self, rng: np.random.Generator | None) -> int:
        """Return the tokens of a review that a batch shows at most."""
        return min(self.crop, self.maxlen) if rng is not None and self.crop else self.maxlen

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def epoch(
        self, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[IntArray | FloatArray, ...]]:
        """Yield ``(ids (batch, width), targets, weights (batch,))`` of each batch.

        Targets are (batch, 1), or (batch, classes) if those of the reviews have two dimensions.
        Further inputs come after the ids, (batch, width, 3 * k). With ``rng``, for training,
        reviews are shuffled and cropped, and words and inputs dropped.
        """
        weight = len(self) * self.batch_size / len(self.rows)
        targets = np.zeros((len(self.split), self.target_width), np.float32)
        given = self.split.labels[self.rows] if self.targets is None else self.targets
        targets[self.rows] = given.reshape(len(self.rows), -1)
        of_rows = np.ones(len(self.split), np.float32)
        if self.row_weights is not None:
            of_rows[self.rows] = self.row_weights
        for chosen in self.plan(rng):
            weights = np.zeros(self.batch_size, np.float32)
            weights[: len(chosen)] = weight * of_rows[chosen]
            filled = np.resize(chosen, self.batch_size)
            yield *self._read(filled, rng), targets[filled], weights

    @property
    def target_width(self) -> int:
        """The columns of the targets."""
        return 1 if self.targets is None or self.targets.ndim == 1 else self.targets.shape[1]

    def _read(
        self, rows: Index, rng: np.random.Generator | None
    ) -> tuple[IntArray | FloatArray, ...]:
        """Return the ids of reviews, and their further inputs, if there are any."""
        starts, ends = self.split.offsets[rows], self.split.offsets[rows + 1]
        if rng is not None and self.crop:
            spare = np.maximum(ends - starts - self.crop, 0)
            starts = starts + rng.integers(0, spare, endpoint=True)
            ends = np.minimum(ends, starts + self.crop)
        ids = _padded(self.split, starts, ends, self.width(rng), self.vocabulary)
        inputs = () if self.inputs is None else (self._inputs(ids, ends),)
        if rng is not None and self.word_dropout:
            ids[(rng.random(ids.shape) < self.word_dropout) & (ids != PAD)] = OOV
        if rng is not None and self.input_dropout:
            for array in inputs:
                array[rng.random(array.shape, np.float32) < self.input_dropout] = 0.0
        return ids, *inputs

    def _inputs(self, ids: IntArray, ends: Index) -> FloatArray:
        """Return the further inputs of ids (batch, width) that end before tokens ``ends``.

        Those of an n-gram that is not among the known ids as a whole are 0.
        """
        assert self.inputs is not None
        width = ids.shape[1]
        tokens = np.maximum(ends[:, None] - width + np.arange(width), 0)
        read = self.inputs[tokens].reshape(*ids.shape, LONGEST_NGRAM, -1)
        known = (ids != PAD) & (ids != OOV)
        whole = known.copy()
        for n in range(LONGEST_NGRAM):
            whole[:, : width - n] &= known[:, n:]
            whole[:, width - n :] = False
            read[~whole, n] = 0.0
        return np.asarray(read.reshape(*ids.shape, -1), np.float32)

    def plan(self, rng: np.random.Generator | None = None) -> list[Index]:
        """Return the row numbers of each batch.

        The shuffled reviews are cut into pools of ``POOL`` batches, each pool is sorted by length
        and cut into batches, and the batches are shuffled; if the end is to be calm, the last ones
        go from long to short. Without ``rng``: all sorted by length.
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
        calm = len(plan) - len(plan) // CALM if self.calm else len(plan)
        return plan[:calm] + sorted(plan[calm:], key=lambda rows: -int(length[rows].max()))

    def time_steps(self, rng: np.random.Generator | None = None) -> int:
        """Return the time steps of an epoch: those of the longest review of each batch, summed."""
        length = self._lengths(rng)
        return sum(int(length[rows].max()) for rows in self.plan(rng))

    def _lengths(self, rng: np.random.Generator | None) -> Index:
        """Return how many tokens of each review of the split a batch shows, (n,)."""
        return np.minimum(self.split.lengths, self._shown(rng))
