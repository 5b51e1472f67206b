"""Text to token ids and back, as the IMDB reviews were tokenized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from imdbtune.data.corpus import INDEX_FROM, OOV, PAD, START

SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
"""Characters that separate words, besides the space. The apostrophe is not one of them."""

_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TABLE = str.maketrans(_UPPER + SEPARATORS, _UPPER.lower() + " " * len(SEPARATORS))


def split_words(text: str) -> list[str]:
    """Return the words of ``text``: A-Z in lower case, split at spaces and ``SEPARATORS`` only."""
    return [word for word in text.translate(_TABLE).split(" ") if word]


@dataclass(frozen=True)
class Tokenizer:
    """Encodes text with ``word_index``: word -> rank, 1 for the most frequent word."""

    word_index: dict[str, int]
    _ids: dict[int, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def encode(self, text: str, vocabulary: int) -> npt.NDArray[np.int32]:
        """Return the ids of ``text`` as in ``keras.datasets.imdb``, int32, (1 + known words,).

        ``START``, then ``rank + INDEX_FROM`` of each word. Ids from ``vocabulary`` on become
        ``OOV``; words that the word index lacks are dropped. An empty text encodes to ``START``
        alone.
        """
        ids = self._ids.get(vocabulary) or self._ids_below(vocabulary)
        known = filter(None, map(ids.get, text.translate(_TABLE).split(" ")))
        return np.array([START, *known], np.int32)

    def _ids_below(self, vocabulary: int) -> dict[str, int]:
        """Return word -> id, saved for the next text: one dictionary look-up a word."""
        ids = {word: rank + INDEX_FROM for word, rank in self.word_index.items() if word}
        ids = {word: i if i < vocabulary else OOV for word, i in ids.items()}
        self._ids[vocabulary] = ids
        return ids


def build_word_index(texts: Iterable[str]) -> dict[str, int]:
    """Return word -> rank (from 1) by frequency in ``texts``; ties in alphabetical order."""
    counts = Counter(word for text in texts for word in split_words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: rank for rank, word in enumerate(ranked, start=1)}


def decode(ids: Iterable[int], word_index: dict[str, int]) -> str:
    """Return the words of ``ids`` with spaces between; ``?`` for ``OOV`` and unknown ids.

    ``PAD`` and ``START`` are left out.
    """
    words = {rank + INDEX_FROM: word for word, rank in word_index.items()}
    return " ".join(words.get(int(i), "?") for i in ids if i not in (PAD, START))
