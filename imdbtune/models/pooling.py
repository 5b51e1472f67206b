"""Pooling over time of a sequence of outputs, with Keras operations."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from imdbtune.data.corpus import PAD
from imdbtune.models.tensors import Tensor


def pool(
    pooling: str,
    ids: Tensor,
    sequence: Tensor,
    score: Callable[[Tensor], Tensor],
    bound: float,
) -> Tensor:
    """Return the poolings over the words of a sequence, concatenated: (batch, features).

    Args:
        pooling: ``max``, ``mean`` or ``attention``, or several of them joined by ``_``.
        ids: word ids (batch, time); padding is excluded.
        sequence: (batch, time, units).
        score: maps the sequence to attention scores (batch, time, 1); the weights of the mean are
            their softmax over time.
        bound: of the absolute value of an element of the sequence.
    """
    is_word = ops.expand_dims(ops.not_equal(ids, PAD), -1)
    pooled = []
    for name in pooling.split("_"):
        if name == "max":
            pooled.append(ops.max(ops.where(is_word, sequence, -bound), axis=1))
        elif name == "mean":
            mask = ops.cast(is_word, "float32")
            total = ops.sum(sequence * mask, axis=1)
            pooled.append(total / ops.maximum(ops.sum(mask, axis=1), 1.0))
        else:
            pooled.append(_attention(sequence, ops.where(is_word, score(sequence), -1e9)))
    return pooled[0] if len(pooled) == 1 else ops.concatenate(pooled, axis=-1)


def bag(ids: Tensor, vectors: Tensor) -> Tensor:
    """Return the skip connection's features, (batch, features): a scaled bag of words.

    It is the sum of the vectors (batch, time, features) of the n words, divided by sqrt(n), so that
    its variance does not depend on the length.
    """
    mask = ops.cast(ops.expand_dims(ops.not_equal(ids, PAD), -1), "float32")
    count = ops.maximum(ops.sum(mask, axis=1), 1.0)
    return ops.sum(vectors * mask, axis=1) / ops.sqrt(count)


def _attention(sequence: Tensor, scores: Tensor) -> Tensor:
    """Return the mean over time, weighted with the softmax of the scores."""
    weights = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
    return ops.sum(sequence * weights, axis=1) / ops.sum(weights, axis=1)
