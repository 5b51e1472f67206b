"""Train the linear model of a search in a process of its own, and cache it for later ones."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from imdbtune.data.corpus import Corpus, read_corpus
from imdbtune.data.folds import NO_FOLDS, Folds
from imdbtune.errors import UserError
from imdbtune.models.metrics.metric import CORRECTNESS_FILE, best_names
from imdbtune.models.nb_linear import (
    MODEL,
    PREDICTED,
    RESULT,
    SETTINGS,
    LinearModel,
    fit,
    train_linear,
)

NICE = 19  # the trials have priority


def main(job: Mapping[str, Any]) -> None:
    """Train the linear model in a background process of a search, and save it with its metrics.

    Args:
        job: ``corpus``, the folder of the corpus; ``reviews``, how many training reviews are used
            (0: all); ``folds``, their number and seed; ``out``, an existing folder.
    """
    _run_in_background()
    _train_and_save(
        read_corpus(Path(job["corpus"])), job["reviews"], Folds(*job["folds"]), Path(job["out"])
    )


def _train_and_save(corpus: Corpus, reviews: int, folds: Folds, out: Path) -> None:
    used = corpus.train.head(reviews or len(corpus.train))
    trained = train_linear(used, folds, len(corpus.labels))
    trained.model.save(out / MODEL)
    np.save(out / PREDICTED, trained.predicted)
    np.save(out / CORRECTNESS_FILE, trained.right)
    (out / RESULT).write_text(json.dumps(trained.metrics), encoding="utf-8")


def cache_folder(corpus: Corpus, reviews: int, folds: Folds = NO_FOLDS) -> Path:
    """Return the folder that caches the linear model of these reviews for later searches."""
    version = importlib.metadata.version("scikit-learn")
    division = [folds.count, folds.seed] if folds.count else []
    key = json.dumps([corpus.digest, reviews, dict(SETTINGS), version, *division])
    return corpus.folder.parent / f"linear-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def cached_model(corpus: Corpus, reviews: int) -> LinearModel:
    """Return the linear model of a search of these reviews, from the cache or trained now.

    Raises:
        ValueError: as in :func:`imdbtune.models.nb_linear.fit`.
    """
    cache = cache_folder(corpus, reviews)
    if is_cached(cache):
        return LinearModel.load(cache / MODEL)
    with tempfile.TemporaryDirectory() as out:
        _train_and_save(corpus, reviews, NO_FOLDS, Path(out))
        save_to_cache(Path(out), cache)
        return LinearModel.load(Path(out) / MODEL)


def training_model(corpus: Corpus, reviews: int, held_out: bool) -> LinearModel:
    """Return the linear model of the training reviews of a trial.

    Training takes half a minute. That of a search, which holds some reviews out, is cached.

    Args:
        corpus: the reviews.
        reviews: how many of them are used, the first ones (0: all).
        held_out: some of these are held out.

    Raises:
        ValueError: as in :func:`imdbtune.models.nb_linear.fit`.
    """
    if held_out:
        return cached_model(corpus, reviews)
    return fit(corpus.train.head(reviews or len(corpus.train)), len(corpus.labels))


def is_cached(cache: Path) -> bool:
    """Return whether the folder has a readable model with all metrics."""
    try:
        LinearModel.load(cache / MODEL)
        result = json.loads((cache / RESULT).read_text(encoding="utf-8"))
        complete = isinstance(result, dict) and result.keys() >= {*best_names()}
        return complete and all((cache / name).exists() for name in (CORRECTNESS_FILE, PREDICTED))
    except (OSError, ValueError, UserError):
        return False


def save_to_cache(out: Path, cache: Path) -> None:
    """Copy a model and its metrics to the cache, replacing files that are damaged."""
    with suppress(OSError):  # the next search trains it again
        temporary = Path(tempfile.mkdtemp(prefix=f"{cache.name}-", dir=cache.parent))
        try:
            shutil.copytree(out, temporary, dirs_exist_ok=True)
            shutil.rmtree(cache, ignore_errors=True)
            temporary.rename(cache)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _run_in_background() -> None:
    """Lower the priority of this process, and exit when its parent does.

    If memory runs out, the kernel kills this process before others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends this process
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _exit_with_parent() -> None:
    """Wait for the end of standard input, a pipe that the parent holds open while it lives."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGKILL)
