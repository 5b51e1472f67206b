"""Text to token ids and back, as the IMDB reviews were tokenized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

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

    def encode(self, text: str, vocabulary: int) -> npt.NDArray[np.int32]:
        """The ids of ``text`` as ``keras.datasets.imdb`` gives them, int32, (1 + known words,).

        ``START``, then ``rank + INDEX_FROM`` of each word. Ids from ``vocabulary`` on become
        ``OOV``; words that the word index lacks are dropped. No text is an error: an empty
        one encodes to ``START`` alone.
        """
        ranks = (self.word_index.get(word) for word in split_words(text))
        ids = [START, *(rank + INDEX_FROM for rank in ranks if rank is not None)]
        return np.array([i if i < vocabulary else OOV for i in ids], dtype=np.int32)


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
