"""Word vectors from the neighbours of words in the reviews, in place of random ones.

Levy, Goldberg & Dagan 2015, "Improving Distributional Similarity with Lessons Learned from Word
Embeddings": the positive pointwise mutual information (PPMI) of words and their neighbours, with
the number of each neighbour to the power of ``SMOOTHING``, is factorised by a truncated singular
value decomposition, whose singular values have the exponent 1/2. As in GloVe (Pennington et al.
2014), a neighbour at distance d counts 1/d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imdbtune.data.corpus import OOV, Split

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Vectors = npt.NDArray[np.float32]

WINDOW = 5  # largest distance of a neighbour
SMOOTHING = 0.75
LENGTH = 1.2  # of each vector


def ppmi_vectors(split: Split, vocabulary: int, size: int) -> Vectors:
    """Return the vectors of all ids, (vocabulary, size), with a length of ``LENGTH``.

    Ids that are no words, and words without known neighbours, have zeros. So has what goes beyond
    the rank of the decomposition.
    """
    from scipy.sparse.linalg import svds

    vectors = np.zeros((vocabulary, size), np.float32)
    information = _ppmi(_neighbours(split, vocabulary))
    rank = min(size, vocabulary - 1)
    if not information.nnz or not rank:
        return vectors
    # A fixed start makes the result the same each time.
    left, values, _ = svds(information, k=rank, v0=np.ones(vocabulary, np.float32), tol=1e-2)
    vectors[:, :rank] = left * np.sqrt(values)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, LENGTH * vectors / np.maximum(lengths, 1e-6), np.float32(0))


def _neighbours(split: Split, vocabulary: int) -> csr_array:
    """Return how often words are near each other, (vocabulary, vocabulary)."""
    from scipy.sparse import csr_array

    ids = split.tokens.astype(np.int32)
    is_word = (ids > OOV) & (ids < vocabulary)
    reviews = np.repeat(np.arange(len(split)), split.lengths)
    total = csr_array((vocabulary, vocabulary), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        count = max(len(ids) - distance, 0)
        both = is_word[:count] & is_word[distance:] & (reviews[:count] == reviews[distance:])
        pairs = (ids[:count][both], ids[distance:][both])
        weights = np.full(len(pairs[0]), 1 / distance, np.float32)
        found = csr_array((weights, pairs), shape=total.shape)
        total = total + found + found.T
    return total


def _ppmi(counts: csr_array) -> csr_array:
    """Return the positive pointwise mutual information of a symmetric matrix of counts."""
    from scipy.sparse import csr_array

    found = counts.tocoo()
    words = counts.sum(axis=1)
    neighbours = words**SMOOTHING
    shares = neighbours / max(neighbours.sum(), 1e-9)
    rows, columns = found.coords
    information = np.log(found.data / (words[rows] * shares[columns]))
    is_positive = information > 0
    kept = (rows[is_positive], columns[is_positive])
    return csr_array((information[is_positive].astype(np.float32), kept), shape=counts.shape)
