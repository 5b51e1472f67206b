"""The baselines of a search: a linear model on words and word pairs, and the majority class.

Wang & Manning 2012, "Baselines and Bigrams": the features are whether a word or pair occurs in a
review, times its naive Bayes log-count ratio ``r = log((p / |p|) / (q / |q|))``, where p and q are
``ALPHA`` plus the number of positive and negative reviews in which it occurs. The classifier is
logistic regression, which unlike an SVM has probabilities and so a loss.

The key of a word is its id, that of a pair of neighbours (a, b) is a * vocabulary + b. There is no
word 0.
"""

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
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import validation_split
from imdbtune.data.corpus import Corpus, Split, read_corpus
from imdbtune.data.folds import NO_FOLDS, Folds
from imdbtune.errors import UserError
from imdbtune.models.metrics.metric import CORRECTNESS_FILE, best_names, measure

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ALPHA = 1.0  # added to all counts
C = 0.1  # inverse strength of the regularisation
MIN_DF = 2  # minimum number of reviews in which a word or pair occurs
SETTINGS: Mapping[str, object] = {"ngrams": "1,2", "alpha": ALPHA, "C": C, "min_df": MIN_DF}
MODEL, RESULT, PREDICTED = "linear.npz", "result.json", "validation_probabilities.npy"
CHUNK = 5000  # reviews predicted at a time, which limits the memory
NICE = 19  # the trials have priority


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A trained model."""

    keys: Integers  # (features,), increasing
    weights: npt.NDArray[np.float32]  # (features,), weight of the classifier times ratio
    bias: float
    vocabulary: int  # ids from here on did not occur in training

    def save(self, path: Path) -> None:
        """Write the model as an ``.npz``."""
        np.savez_compressed(
            path,
            keys=self.keys,
            weights=self.weights,
            bias=np.float64(self.bias),
            vocabulary=np.int64(self.vocabulary),
        )

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read a model that :meth:`save` wrote; no code in the file is run.

        Raises:
            UserError: the file is damaged, or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                keys, weights = file["keys"].astype(np.int64), file["weights"].astype(np.float32)
                model = cls(keys, weights, float(file["bias"]), int(file["vocabulary"]))
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a linear model of imdbtune: {error}.") from error
        if keys.ndim != 1 or keys.shape != weights.shape or np.any(np.diff(keys) <= 0):
            raise UserError(f"{path} is not a linear model of imdbtune: its arrays do not match.")
        return model


def fit(split: Split) -> LinearModel:
    """Return a model trained on all reviews of ``split``.

    Raises:
        ValueError: all reviews have the same label, or no word occurs in ``MIN_DF`` of them.
    """
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(split.labels)) < 2:
        raise ValueError("all reviews to train on have the same label")
    vocabulary = int(split.tokens.max(initial=0)) + 1
    rows, keys = terms(split, vocabulary)
    keys, columns = np.unique(keys, return_inverse=True)
    rows, columns = _unique(rows, columns, len(keys))
    is_frequent = np.bincount(columns, minlength=len(keys)) >= MIN_DF
    chosen = is_frequent[columns]
    rows, columns = rows[chosen], (np.cumsum(is_frequent) - 1)[columns[chosen]]
    keys = keys[is_frequent]
    if not len(keys):
        raise ValueError(f"no word occurs in {MIN_DF} of the reviews to train on")
    ratios = log_count_ratios(columns, split.labels[rows], len(keys))
    ends = np.cumsum(np.bincount(rows, minlength=len(split)))
    shape = (len(split), len(keys))
    # liblinear accepts only 32-bit indices.
    indices = (columns.astype(np.int32), np.concatenate([[0], ends]).astype(np.int32))
    matrix = csr_array((ratios[columns], *indices), shape=shape)
    classifier = LogisticRegression(solver="liblinear", C=C).fit(matrix, split.labels)
    weights = (classifier.coef_[0] * ratios).astype(np.float32)
    return LinearModel(keys, weights, float(classifier.intercept_[0]), vocabulary)


def terms(split: Split, vocabulary: int) -> tuple[Integers, Integers]:
    """Return the row and the key of each word and each pair of neighbours in a review.

    Ids from ``vocabulary`` on are ignored.
    """
    tokens = split.tokens.astype(np.int64)
    rows = np.repeat(np.arange(len(split)), split.lengths)
    known = tokens < vocabulary
    paired = known[:-1] & known[1:] & (rows[:-1] == rows[1:])
    pairs = tokens[:-1][paired] * vocabulary + tokens[1:][paired]
    return (
        np.concatenate([rows[known], rows[:-1][paired]]),
        np.concatenate([tokens[known], pairs]),
    )


def _unique(rows: Integers, columns: Integers, width: int) -> tuple[Integers, Integers]:
    """Return the distinct (row, column), sorted: a term counts once in a review."""
    entries = np.sort(rows * width + columns)
    # np.unique, which hashes, takes ten times as long if nearly all differ.
    entries = entries[np.diff(entries, prepend=-1) > 0]
    rows = entries // width
    return rows, entries - rows * width


def log_count_ratios(columns: Integers, labels: npt.NDArray[np.int8], width: int) -> Floats:
    """Return the log-count ratio of each of ``width`` features, (width,).

    Args:
        columns: the feature of each (review, feature) that occurs, (m,).
        labels: the label of that review, (m,).
        width: number of features.
    """
    p = ALPHA + np.bincount(columns[labels == 1], minlength=width)
    q = ALPHA + np.bincount(columns[labels == 0], minlength=width)
    return np.asarray(np.log((p / p.sum()) / (q / q.sum())), np.float64)


def predict(model: LinearModel, split: Split) -> Floats:
    """Return the probability that each review is positive, (n,)."""
    starts = range(0, len(split), CHUNK)
    parts = [_predict(model, split.part(first, first + CHUNK)) for first in starts]
    return np.concatenate([np.empty(0), *parts])


def _predict(model: LinearModel, split: Split) -> Floats:
    rows, keys = terms(split, model.vocabulary)
    columns = np.searchsorted(model.keys, keys)
    columns[columns == len(model.keys)] = 0
    found = model.keys[columns] == keys if len(model.keys) else np.zeros(len(keys), bool)
    rows, columns = _unique(rows[found], columns[found], len(model.keys))
    sums = np.bincount(rows, weights=model.weights[columns], minlength=len(split))
    return np.asarray(1 / (1 + np.exp(-(model.bias + sums))), np.float64)


def train_and_validation(split: Split) -> tuple[Split, Split]:
    """Return the training and the validation reviews of the trials of a search."""
    count = len(validation_split(len(split))[0])
    return split.part(0, count), split.part(count, len(split))


def _fold_parts(split: Split, folds: Folds) -> Iterator[tuple[Split, Split]]:
    """Yield the training and the validation reviews of each fold."""
    for fold in range(folds.count):
        training, validation = folds.rows(split.labels, fold)
        yield split.select(training), split.select(validation)


@dataclass(frozen=True)
class Trained:
    """The linear model of a search.

    Args:
        metrics: named like a trial's; after a cross-validation, their means over the folds.
        predicted: (validation reviews,), its probabilities; after a cross-validation, those of the
            model of the fold that held the review out.
        right: (validation reviews,), whether they classify each right.
    """

    model: LinearModel
    metrics: dict[str, float]
    predicted: Floats
    right: npt.NDArray[np.bool_]


def train_linear(split: Split, folds: Folds = NO_FOLDS) -> Trained:
    """Train on the training part of ``split``, and measure on both parts.

    Args:
        split: the training reviews of the search.
        folds: train for each; the model is that of the fold with the best accuracy.
    """
    import sklearn.linear_model  # noqa: F401 - importing takes seconds, not to be counted

    if not folds.count:
        return _train_on(*train_and_validation(split))
    trained = [_train_on(*parts) for parts in _fold_parts(split, folds)]
    best = max(trained, key=lambda each: each.metrics["best_val_accuracy"])
    seconds = sum(each.metrics["train_seconds"] for each in trained)
    predicted, fold_of = np.empty(len(split)), folds.assign(split.labels)
    for fold, each in enumerate(trained):
        predicted[fold_of == fold] = each.predicted
    means = _mean_metrics([each.metrics for each in trained])
    metrics = {**best.metrics, **means, "train_seconds": seconds}
    return Trained(best.model, metrics, predicted, (predicted > 0.5) == (split.labels == 1))


def _mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over folds of each value that a metric has."""
    return {name: fmean(each[name] for each in metrics) for name in best_names()}


def _train_on(training: Split, validation: Split) -> Trained:
    started = time.monotonic()
    model = fit(training)
    seconds = time.monotonic() - started
    size = {"features": float(len(model.keys)), "parameter_count": len(model.keys) + 1.0}
    predicted = predict(model, validation)
    metrics = _metrics(training, predict(model, training), validation, predicted)
    right = (predicted > 0.5) == (validation.labels == 1)
    return Trained(model, {**metrics, "train_seconds": seconds, **size}, predicted, right)


def measure_majority(split: Split, folds: Folds = NO_FOLDS) -> dict[str, float]:
    """Return the metrics of a constant: the share of positive labels in the training part.

    With folds, they are the means over these.
    """
    if not folds.count:
        return _measure_constant(*train_and_validation(split))
    measured = [_measure_constant(*parts) for parts in _fold_parts(split, folds)]
    return {**measured[0], **_mean_metrics(measured)}


def _measure_constant(training: Split, validation: Split) -> dict[str, float]:
    share = float(training.labels.mean()) if len(training) else 0.5
    constant = [np.full(len(part), share) for part in (training, validation)]
    metrics = _metrics(training, constant[0], validation, constant[1])
    return {**metrics, "train_seconds": 0.0, "parameter_count": 1.0}


def _metrics(
    training: Split, fitted: Floats, validation: Split, predicted: Floats
) -> dict[str, float]:
    on_training = measure(training.labels, fitted)
    on_validation = measure(validation.labels, predicted)
    return {
        **{f"best_{name}": value for name, value in on_training.items()},
        **{f"best_val_{name}": value for name, value in on_validation.items()},
    }


def main(job: Mapping[str, Any]) -> None:
    """Train the linear model in a background process of a search, and save it with its metrics.

    Args:
        job: ``corpus``, the folder of the corpus; ``reviews``, how many training reviews are used
            (0: all); ``folds``, their number and seed; ``out``, an existing folder.
    """
    _run_in_background()
    training = read_corpus(Path(job["corpus"])).train
    trained = train_linear(training.head(job["reviews"] or len(training)), Folds(*job["folds"]))
    out = Path(job["out"])
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
