"""Tokenized reviews in memory, four bytes a word, between their source and a corpus.

The source is read once. Words get numbers in order of appearance; when all reviews are read and
divided, the numbers are replaced by the words' ranks among the training reviews.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import Index
from imdbtune.data.corpus import INDEX_FROM, START, Split
from imdbtune.data.text import split_words
from imdbtune.errors import UserError

Ids = npt.NDArray[np.int32]

_CHUNK = 2**22  # words counted at once
_MAX_SIZE = 2**28  # words and reviews together; 40 times those of the IMDB reviews


class Review(NamedTuple):
    """One review as read from its source."""

    text: str
    label: str
    part: int  # TRAIN, VALIDATION or TEST


class _Numbers(dict[str, int]):
    """Word -> number; a new word gets the next number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class ReviewBuffer:
    """All reviews of a source: their words in one array, their labels and parts.

    Raises:
        UserError: the reviews have more words than the buffer may hold.
    """

    def __init__(self, reviews: Iterable[Review]) -> None:
        self._numbers, self._names = _Numbers(), _Numbers()
        self._words, self._ends = array("i"), array("q", [0])
        self._labels, self._parts = array("b"), array("b")
        self._hashes = array("q")
        for review in reviews:
            self._add(review)
            if len(self._words) + len(self._labels) > _MAX_SIZE:
                raise UserError(
                    f"the reviews have more than {_MAX_SIZE:,} words; leave some reviews out."
                )

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def words(self) -> int:
        """The number of words in all reviews."""
        return len(self._words)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that occur, in order of appearance."""
        return tuple(self._names)

    def labels(self, names: Sequence[str]) -> npt.NDArray[np.int8]:
        """Return the index of each review's label in ``names``, (n,)."""
        indices = np.array([names.index(name) for name in self._names], np.int8)
        return indices[np.frombuffer(self._labels, np.int8)]

    @property
    def parts(self) -> npt.NDArray[np.int8]:
        """The part of each review: TRAIN, VALIDATION or TEST, (n,)."""
        return np.frombuffer(self._parts, np.int8)

    def _add(self, review: Review) -> None:
        text = review.text
        if "\r" in text:  # the tokenizer splits at \n only
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        words = split_words(text)
        self._words.fromlist(list(map(self._numbers.__getitem__, words)))
        self._ends.append(len(self._words))
        self._labels.append(self._names[review.label])
        self._parts.append(review.part)
        self._hashes.append(hash(" ".join(words)))

    def word_index(self, rows: Index) -> dict[str, int]:
        """Return word -> rank, as ``build_word_index`` of the texts of ``rows``."""
        counts = np.zeros(len(self._numbers), np.int64)
        for numbers in self._chunks(rows):
            counts += np.bincount(numbers, minlength=len(counts))
        words = sorted(word for word, number in self._numbers.items() if counts[number])
        ordered = np.argsort([-counts[self._numbers[word]] for word in words], kind="stable")
        return {words[i]: rank for rank, i in enumerate(ordered.tolist(), start=1)}

    def split(
        self, rows: Index, word_index: Mapping[str, int], labels: npt.NDArray[np.int8]
    ) -> Split:
        """Return the reviews ``rows``, in this order, without words that the word index lacks.

        ``labels`` are those of all reviews, (n,).
        """
        ids = np.zeros(len(self._numbers), np.int32)
        for word, rank in word_index.items():
            ids[self._numbers[word]] = rank + INDEX_FROM
        tokens, ends = self._arrays()
        size = int((ends[rows + 1] - ends[rows]).sum()) + len(rows)
        out, offsets = np.empty(size, np.int32), np.zeros(len(rows) + 1, np.int64)
        at = 0
        for i, row in enumerate(rows.tolist(), start=1):
            known = ids[tokens[ends[row] : ends[row + 1]]]
            known = known[known > 0]
            out[at] = START
            out[at + 1 : at + 1 + len(known)] = known
            offsets[i] = at = at + 1 + len(known)
        return Split(out[:at], offsets, labels[rows])

    def repeated(self, rows: Index, among: Index) -> int:
        """Return how many non-empty reviews of ``rows`` have the same words as one of ``among``."""
        hashes, ends = np.frombuffer(self._hashes, np.int64), self._arrays()[1]
        with_words = rows[ends[rows + 1] > ends[rows]]
        return int(np.isin(hashes[with_words], hashes[among]).sum())

    def _arrays(self) -> tuple[Ids, npt.NDArray[np.int64]]:
        return np.frombuffer(self._words, np.int32), np.frombuffer(self._ends, np.int64)

    def _chunks(self, rows: Index) -> Iterator[Ids]:
        """Yield the word numbers of ``rows``, some millions at a time."""
        tokens, ends = self._arrays()
        chosen = np.zeros(len(self), bool)
        chosen[rows] = True
        first = 0
        while first < len(self):
            last = max(int(np.searchsorted(ends, ends[first] + _CHUNK)), first + 1)
            last = min(last, len(self))
            mask = np.repeat(chosen[first:last], np.diff(ends[first : last + 1]))
            yield tokens[ends[first] : ends[last]][mask]
            first = last
