"""Hash words, and pairs and triples of neighbours, to the rows of a table.

Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning". An n-gram (a, b, c)
has the key ``a * F1 + b * F2 + c * F3`` with the three ``FACTORS``, in which missing words count as
0, and the row ``key mod (rows - 1) + 1``. Those with an unknown word have none. So Keras, ONNX and
NumPy (:mod:`imdbtune.models.numpy_reference`) need no list of n-grams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.data.corpus import OOV, PAD, Split
from imdbtune.models.hashed_bigrams import following

if TYPE_CHECKING:
    from imdbtune.models.tensors import Tensor

Integers = npt.NDArray[np.int64]

# The first primes after 2**36 times the fractional parts of the golden ratio, of the square root of
# 2 and of that of 3: below 2**63, keys do not overflow.
FACTORS = (42470972317, 28464539267, 50306148449)
VOCABULARY = int(PARAMETERS["vocabulary"].metadata["high"])  # ids from here on are unknown words


def ngram_keys(split: Split, n: int) -> tuple[Integers, npt.NDArray[np.bool_]]:
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


def ngram_rows(ids: Tensor, rows: int) -> list[Tensor]:
    """Return the rows of the words, pairs and triples that begin at ids (batch, time).

    Each is (batch, time) int32; 0: there is none.
    """
    from keras import ops  # here, because export formats need only the factors

    word = ops.cast(ids, "int64")
    key, is_known, found = ops.zeros_like(word), ops.ones_like(ids, dtype="bool"), []
    for factor in FACTORS:
        key = key + word * factor
        is_known = ops.logical_and(
            is_known, ops.logical_and(ops.not_equal(word, PAD), ops.not_equal(word, OOV))
        )
        found.append(ops.cast(ops.where(is_known, ops.mod(key, rows - 1) + 1, 0), "int32"))
        word = following(word)
    return found
