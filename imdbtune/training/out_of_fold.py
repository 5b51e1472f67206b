"""What linear models say of the training reviews on which they were not trained.

On its own training reviews a linear model would only repeat the labels. So the reviews are divided
into ``FOLDS`` parts, and a model trained on the other parts is asked about each. Held-out reviews
are not used. Networks can learn from its probabilities (:mod:`imdbtune.training.soft_labels`), and
read its weights of n-grams (:mod:`imdbtune.models.ngram_inputs`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.data.cache import locked
from imdbtune.data.corpus import Corpus, read_corpus
from imdbtune.errors import TrialFailed, UserError
from imdbtune.files import atomic_path
from imdbtune.models import nb_linear
from imdbtune.models.nb_linear_cache import cache_folder, training_model
from imdbtune.models.ngram_inputs import SCALE, inputs_by_token
from imdbtune.training.spec import TrialSpec

FOLDS = 5
# With a probability of exactly 0 or 1, a share of 0.5 could give a label of exactly 0.5.
EPSILON = 1e-6
PROBABILITIES, INPUTS = "probabilities", "inputs"  # arrays in the file of a fold

Floats = npt.NDArray[np.float32]


def out_of_fold_probabilities(corpus: Path, count: int) -> Floats:
    """Return out-of-fold probabilities of the first ``count`` training reviews.

    They are those of label 1, (count,); with more than two labels of each, (count, labels).

    Each fold is computed once and cached. Concurrent processes share the work.

    Raises:
        TrialFailed: no linear model can be trained on so few reviews.
    """
    result = np.empty((count, *_columns(read_corpus(corpus))), np.float32)
    for fold, found in _folds(corpus, count, PROBABILITIES):
        result[fold::FOLDS] = found
    return np.clip(result, EPSILON, 1 - EPSILON)


def ngram_inputs(spec: TrialSpec, trained: int, count: int) -> Floats:
    """Return the further inputs at each token of the first ``count`` reviews, (tokens, features).

    Those of the training reviews are out of fold. The held-out ones come after them, and have those
    of the model of all training reviews.

    Args:
        spec: of a trial without folds.
        trained: number of training reviews, the first ones.
        count: number of reviews.

    Raises:
        TrialFailed: no linear model can be trained on so few reviews.
    """
    split = read_corpus(spec.corpus).train
    folds = list(_folds(spec.corpus, trained, INPUTS))
    result = np.empty((split.offsets[count], folds[0][1].shape[1]), np.float32)
    fold_of_token = np.repeat(np.arange(trained) % FOLDS, split.lengths[:trained])
    for fold, found in folds:
        result[: len(fold_of_token)][fold_of_token == fold] = found
    if trained < count:
        model = whole_model(spec)
        result[len(fold_of_token) :] = inputs_by_token(model, split.part(trained, count))
    return result


def whole_model(spec: TrialSpec) -> nb_linear.LinearModel:
    """Return the linear model of all training reviews of a trial.

    Raises:
        TrialFailed: no linear model can be trained on so few reviews.
    """
    corpus, settings = read_corpus(spec.corpus), spec.settings
    try:
        with _lock(cache_folder(corpus, settings.reviews)):
            return training_model(corpus, settings.reviews, settings.hold_out)
    except ValueError as error:
        raise _failure(error) from error


def estimate_seconds(corpus: Path, count: int) -> float:
    """Return how long the folds take that are still to be computed; one of them is, and cached."""
    caches = _caches(corpus, count)
    missing = [fold for fold, cache in enumerate(caches) if not cache.exists()]
    if not missing:
        return 0.0
    began = time.monotonic()
    with _lock(caches[missing[0]]):
        _cached(caches[missing[0]], read_corpus(corpus), count, missing[0], PROBABILITIES)
    return (time.monotonic() - began) * (len(missing) - 1)


def _folds(corpus: Path, count: int, name: str) -> Iterator[tuple[int, Floats]]:
    """Yield the number of each fold, and an array of its file."""
    caches = _caches(corpus, count)
    for offset in range(FOLDS):
        fold = (os.getpid() + offset) % FOLDS  # so that another process starts with another fold
        with _lock(caches[fold]):
            yield fold, _cached(caches[fold], read_corpus(corpus), count, fold, name)


def _caches(corpus: Path, count: int) -> list[Path]:
    """Return the file of each fold."""
    version = importlib.metadata.version("scikit-learn")
    facts = [read_corpus(corpus).digest, count, FOLDS, SCALE, dict(nb_linear.SETTINGS), version]
    name = f"out-of-fold-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
    return [corpus.parent / f"{name}-{fold}.npz" for fold in range(FOLDS)]


@contextlib.contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Let one process at a time compute what is cached; without locks, each process computes it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(UserError):
            stack.enter_context(locked(cache.with_suffix(".lock")))
        yield


def _columns(corpus: Corpus) -> tuple[int, ...]:
    """Return the shape of the probabilities of one review."""
    return (len(corpus.labels),) if len(corpus.labels) > 2 else ()


def _cached(cache: Path, corpus: Corpus, count: int, fold: int, name: str) -> Floats:
    """Return an array of a fold, read from ``cache`` or computed and written there."""
    split, rows = corpus.train.head(count), np.arange(count)
    own = split.select(rows[fold::FOLDS])
    length = {PROBABILITIES: len(own), INPUTS: len(own.tokens)}[name]
    with contextlib.suppress(OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        with np.load(cache, allow_pickle=False) as file:
            array = file[name]
        if len(array) == length and array.dtype == np.float32:
            return np.asarray(array)
    try:
        model = nb_linear.fit(split.select(rows[rows % FOLDS != fold]), *_columns(corpus))
    except ValueError as error:
        raise _failure(error) from error
    computed = {
        PROBABILITIES: nb_linear.predict(model, own).astype(np.float32),
        INPUTS: inputs_by_token(model, own),
    }
    with contextlib.suppress(OSError), atomic_path(cache) as path, path.open("wb") as file:
        np.savez(file, allow_pickle=False, **computed)
    return computed[name]


def _failure(error: ValueError) -> TrialFailed:
    return TrialFailed(f"no soft labels and no n-grams: {error}")
