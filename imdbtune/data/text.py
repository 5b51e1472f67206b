"""Text to token ids and back, as the IMDB reviews were tokenized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from imdbtune.data.corpus import INDEX_FROM, OOV, PAD, START

SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
"""Characters that end a word as a space does. The apostrophe is not among them."""

_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TABLE = str.maketrans(_UPPER + SEPARATORS, _UPPER.lower() + " " * len(SEPARATORS))


def split_words(text: str) -> list[str]:
    """The words of ``text``: A-Z in lower case, cut at spaces and ``SEPARATORS`` only."""
    return [word for word in text.translate(_TABLE).split(" ") if word]


@dataclass(frozen=True)
class Tokenizer:
    """Encodes text with ``word_index``: word -> rank, 1 for the most frequent word."""

    word_index: dict[str, int]
    _ids: dict[int, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def encode(self, text: str, vocabulary: int) -> npt.NDArray[np.int32]:
        """The ids of ``text`` as ``keras.datasets.imdb`` gives them, int32, (1 + known words,).

        ``START``, then ``rank + INDEX_FROM`` of each word. Ids from ``vocabulary`` on become
        ``OOV``; words that the word index lacks are dropped. No text is an error: an empty
        one encodes to ``START`` alone.
        """
        ids = self._ids.get(vocabulary) or self._made_for(vocabulary)
        known = filter(None, map(ids.get, text.translate(_TABLE).split(" ")))
        return np.array([START, *known], np.int32)

    def _made_for(self, vocabulary: int) -> dict[str, int]:
        """Word -> id, so that a text takes one look at each of its words."""
        ids = {word: rank + INDEX_FROM for word, rank in self.word_index.items() if word}
        ids = {word: i if i < vocabulary else OOV for word, i in ids.items()}
        self._ids[vocabulary] = ids
        return ids


def build_word_index(texts: Iterable[str]) -> dict[str, int]:
    """Word -> rank (from 1) by frequency in ``texts``; words of one frequency by alphabet."""
    counts = Counter(word for text in texts for word in split_words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: rank for rank, word in enumerate(ranked, start=1)}


def decode(ids: Iterable[int], word_index: dict[str, int]) -> str:
    """The words of ``ids`` with spaces between; ``?`` for ``OOV`` and for ids of no word.

    ``PAD`` and ``START`` are left out.
    """
    words = {rank + INDEX_FROM: word for word, rank in word_index.items()}
    return " ".join(words.get(int(i), "?") for i in ids if i not in (PAD, START))
