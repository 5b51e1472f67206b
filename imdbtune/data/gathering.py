"""Reviews on their way from texts to a corpus, read once, in four bytes a word.

Words get numbers in the order in which they come; when all have been read and it is settled which
reviews are for training, the numbers are replaced by the words' ranks among these.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imdbtune.data.corpus import INDEX_FROM, START, Split
from imdbtune.data.parts import Index
from imdbtune.data.text import split_words
from imdbtune.errors import UserError

Ids = npt.NDArray[np.int32]

_CHUNK = 2**22  # words that are counted at once
_MOST = 2**28  # words and reviews; 40 times the words of the IMDB reviews


class Review(NamedTuple):
    """One review as it came."""

    text: str
    label: str
    part: int  # TRAIN, VALIDATION or TEST


class _Numbers(dict[str, int]):
    """Word -> number; a new word gets the next one."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class Gathered:
    """Reviews: all their words one after the other, labels and parts.

    Raises:
        UserError: there are more of them than memory may hold.
    """

    def __init__(self, reviews: Iterable[Review]) -> None:
        self._numbers, self._names = _Numbers(), _Numbers()
        self._words, self._ends = array("i"), array("q", [0])
        self._labels, self._parts = array("b"), array("b")
        self._hashes = array("q")
        for review in reviews:
            self._add(review)
            if len(self._words) + len(self._labels) > _MOST:
                raise UserError(
                    f"there are more than {_MOST:,} words in the reviews; leave some of them out."
                )

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def words(self) -> int:
        """How many words all reviews have together."""
        return len(self._words)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that occur."""
        return tuple(self._names)

    def labels(self, names: Sequence[str]) -> npt.NDArray[np.int8]:
        """The place of each review's label in ``names``, (n,)."""
        places = np.array([names.index(name) for name in self._names], np.int8)
        return places[np.frombuffer(self._labels, np.int8)]

    @property
    def parts(self) -> npt.NDArray[np.int8]:
        """The part of each review, (n,)."""
        return np.frombuffer(self._parts, np.int8)

    def _add(self, review: Review) -> None:
        text = review.text
        if "\r" in text:  # the tokenizer knows line breaks of one kind only
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        words = split_words(text)
        self._words.fromlist(list(map(self._numbers.__getitem__, words)))
        self._ends.append(len(self._words))
        self._labels.append(self._names[review.label])
        self._parts.append(review.part)
        self._hashes.append(hash(" ".join(words)))

    def word_index(self, rows: Index) -> dict[str, int]:
        """As :func:`imdbtune.data.text.build_word_index` makes it of the texts of ``rows``."""
        counts = np.zeros(len(self._numbers), np.int64)
        for numbers in self._chunks(rows):
            counts += np.bincount(numbers, minlength=len(counts))
        words = sorted(word for word, number in self._numbers.items() if counts[number])
        ordered = np.argsort([-counts[self._numbers[word]] for word in words], kind="stable")
        return {words[i]: rank for rank, i in enumerate(ordered.tolist(), start=1)}

    def split(
        self, rows: Index, word_index: Mapping[str, int], labels: npt.NDArray[np.int8]
    ) -> Split:
        """The reviews ``rows`` in this order; words that the word index lacks are dropped.

        ``labels`` are those of all reviews, 0 or 1.
        """
        ids = np.zeros(len(self._numbers), np.int32)
        for word, rank in word_index.items():
            ids[self._numbers[word]] = rank + INDEX_FROM
        tokens, ends = self._arrays()
        room = int((ends[rows + 1] - ends[rows]).sum()) + len(rows)
        out, offsets = np.empty(room, np.int32), np.zeros(len(rows) + 1, np.int64)
        at = 0
        for i, row in enumerate(rows.tolist(), start=1):
            known = ids[tokens[ends[row] : ends[row + 1]]]
            known = known[known > 0]
            out[at] = START
            out[at + 1 : at + 1 + len(known)] = known
            offsets[i] = at = at + 1 + len(known)
        return Split(out[:at], offsets, labels[rows])

    def repeated(self, rows: Index, among: Index) -> int:
        """How many of the reviews ``rows`` have the words of one ``among`` others; not none."""
        hashes, ends = np.frombuffer(self._hashes, np.int64), self._arrays()[1]
        with_words = rows[ends[rows + 1] > ends[rows]]
        return int(np.isin(hashes[with_words], hashes[among]).sum())

    def _arrays(self) -> tuple[Ids, npt.NDArray[np.int64]]:
        return np.frombuffer(self._words, np.int32), np.frombuffer(self._ends, np.int64)

    def _chunks(self, rows: Index) -> Iterator[Ids]:
        """The words of ``rows``, in no particular order."""
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
