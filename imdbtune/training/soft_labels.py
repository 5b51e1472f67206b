"""Soft labels: a mean of the labels and the out-of-fold probabilities of the linear model.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network": another model's
probabilities carry more information about an example than its label. On its own training reviews
the linear model would only repeat the labels. So the reviews are divided into ``FOLDS`` parts, and
a model trained on the other parts predicts each. Held-out reviews are not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.data.cache import locked
from imdbtune.data.corpus import Split, read_corpus
from imdbtune.errors import TrialFailed, UserError
from imdbtune.files import atomic_path
from imdbtune.models import nb_linear

FOLDS = 5
# With a probability of exactly 0 or 1, a share of 0.5 could give a label of exactly 0.5.
EPSILON = 1e-6

Floats = npt.NDArray[np.float32]


def soft_labels(corpus: Path, count: int, share: float) -> Floats | None:
    """Return the soft labels of the first ``count`` training reviews, (count,); 1 is positive.

    Rounding a soft label gives the label, as ``share`` is at most 0.5. With more than two labels,
    they are (count, labels), and the largest value is that of the label.

    Args:
        corpus: folder of the corpus; the probabilities are cached next to it.
        count: number of training reviews.
        share: weight of the linear model's probability, the label's is 1 - ``share``. With 0 the
            result is ``None``.

    Raises:
        TrialFailed: no linear model can be trained on so few reviews.
    """
    if not share:
        return None
    opened = read_corpus(corpus)
    labels = opened.train.labels[:count].astype(np.float32)
    if len(opened.labels) > 2:
        labels = np.eye(len(opened.labels), dtype=np.float32)[opened.train.labels[:count]]
    return (1 - np.float32(share)) * labels + np.float32(share) * out_of_fold_probabilities(
        corpus, count
    )


def out_of_fold_probabilities(corpus: Path, count: int) -> Floats:
    """Return out-of-fold probabilities of the first ``count`` training reviews.

    They are those of label 1, (count,); with more than two labels of each, (count, labels).

    Each fold is computed once and cached. Concurrent processes share the work.

    Raises:
        TrialFailed: no linear model can be trained on so few reviews.
    """
    split, caches = read_corpus(corpus).train.head(count), _caches(corpus, count)
    result = np.empty((count, *_shape(corpus)), np.float32)
    for offset in range(FOLDS):
        fold = (os.getpid() + offset) % FOLDS  # so that another process starts with another fold
        with _lock(caches[fold]):
            result[fold::FOLDS] = _cached_probabilities(caches[fold], split, fold, _shape(corpus))
    return np.clip(result, EPSILON, 1 - EPSILON)


def estimate_seconds(corpus: Path, count: int) -> float:
    """Return how long the folds take that are still to be computed; one of them is, and cached."""
    caches = _caches(corpus, count)
    missing = [fold for fold, cache in enumerate(caches) if not cache.exists()]
    if not missing:
        return 0.0
    split, began = read_corpus(corpus).train.head(count), time.monotonic()
    with _lock(caches[missing[0]]):
        _cached_probabilities(caches[missing[0]], split, missing[0], _shape(corpus))
    return (time.monotonic() - began) * (len(missing) - 1)


def _caches(corpus: Path, count: int) -> list[Path]:
    """Return the file of each fold."""
    version = importlib.metadata.version("scikit-learn")
    facts = [read_corpus(corpus).digest, count, FOLDS, dict(nb_linear.SETTINGS), version]
    name = f"opinions-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
    return [corpus.parent / f"{name}-{fold}.npy" for fold in range(FOLDS)]


@contextlib.contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Let one process at a time compute a fold; without locks, each process computes it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(UserError):
            stack.enter_context(locked(cache.with_suffix(".lock")))
        yield


def _shape(corpus: Path) -> tuple[int, ...]:
    """Return the shape of the probabilities of one review."""
    classes = len(read_corpus(corpus).labels)
    return (classes,) if classes > 2 else ()


def _cached_probabilities(cache: Path, split: Split, fold: int, shape: tuple[int, ...]) -> Floats:
    """Return the probabilities of a fold, read from ``cache`` or computed and written there."""
    size = len(range(fold, len(split), FOLDS))
    with contextlib.suppress(OSError, ValueError, EOFError):
        cached = np.load(cache, allow_pickle=False)
        if cached.shape == (size, *shape) and cached.dtype == np.float32:
            return np.asarray(cached)
    rows = np.arange(len(split))
    try:
        model = nb_linear.fit(split.select(rows[rows % FOLDS != fold]), *shape)
    except ValueError as error:
        raise TrialFailed(f"no soft labels: {error}") from error
    computed = nb_linear.predict(model, split.select(rows[fold::FOLDS])).astype(np.float32)
    with contextlib.suppress(OSError), atomic_path(cache) as path, path.open("wb") as file:
        np.save(file, computed)
    return computed
