"""Hash words, and pairs and triples of neighbours, to the rows of a table.

Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning". An n-gram (a, b, c)
has the key ``a * F1 + b * F2 + c * F3`` with the three ``FACTORS``, in which missing words count as
0, and the row ``key mod (rows - 1) + 1``. Those with an unknown word have none. So Keras, ONNX and
NumPy (:mod:`imdbtune.models.numpy_reference`) need no list of n-grams.

Reviews often end with their verdict, so an n-gram that begins among the last ``END`` words of a
review is a second feature besides itself. Its key is larger by ``END_KEY``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.data.corpus import OOV, PAD, Split
from imdbtune.models.hashed_bigrams import following

if TYPE_CHECKING:
    from imdbtune.models.tensors import Tensor

Integers = npt.NDArray[np.int64]

# The first primes after 2**36 times the fractional parts of the golden ratio, the
# square root of 2, that of 3, and that of 5. Below 2**63, keys do not overflow.
FACTORS = (42470972317, 28464539267, 50306148449)
END_KEY = 16222467901
END = 80  # words
KINDS = 2 * len(FACTORS)  # of features: n-grams of each length, anywhere and at the end
VOCABULARY = int(PARAMETERS["vocabulary"].metadata["high"])  # ids from here on are unknown words


def feature_keys(split: Split) -> Iterator[tuple[Integers, npt.NDArray[np.bool_]]]:
    """Yield the keys of the features that begin at each token, and whether they count, (tokens,).

    The features are words, words at the end, pairs, pairs at the end, and so on.
    """
    at_end = np.repeat(split.offsets[1:], split.lengths) - np.arange(len(split.tokens)) <= END
    for n in range(1, len(FACTORS) + 1):
        keys, counts = _ngram_keys(split, n)
        yield keys, counts
        yield keys + END_KEY, counts & at_end


def _ngram_keys(split: Split, n: int) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Return the key of the n-gram that begins at each token, and whether it counts, (tokens,).

    It does not if it has an unknown word, or goes beyond the end of its review.
    """
    tokens = split.tokens.astype(np.int64)
    reviews = np.repeat(np.arange(len(split)), split.lengths)
    count = max(len(tokens) - n + 1, 0)
    key, counts = np.zeros(len(tokens), np.int64), np.zeros(len(tokens), np.bool_)
    counts[:count] = reviews[:count] == reviews[len(reviews) - count :]
    for position, factor in enumerate(FACTORS[:n]):
        part = tokens[position : position + count]
        key[:count] += part * factor
        counts[:count] &= (part != OOV) & (part < VOCABULARY)
    return key, counts


def table_rows(keys: Integers, rows: int) -> Integers:
    """Return the row of each key in a table of ``rows``."""
    return keys % (rows - 1) + 1


def feature_rows(ids: Tensor, rows: int) -> list[Tensor]:
    """Return the rows of the features that begin at ids (batch, time), as in :func:`feature_keys`.

    Each is (batch, time) int32; 0: there is none.
    """
    from keras import ops  # here, because export formats need only the factors

    word, at_end = ops.cast(ids, "int64"), ops.equal(following(ids, END), PAD)
    key, is_known, found = ops.zeros_like(word), ops.ones_like(ids, dtype="bool"), []
    for factor in FACTORS:
        key = key + word * factor
        is_known = ops.logical_and(
            is_known, ops.logical_and(ops.not_equal(word, PAD), ops.not_equal(word, OOV))
        )
        for own, counts in ((key, is_known), (key + END_KEY, ops.logical_and(is_known, at_end))):
            found.append(ops.cast(ops.where(counts, ops.mod(own, rows - 1) + 1, 0), "int32"))
        word = following(word)
    return found
