"""The baselines of a search: a linear model on word n-grams, and the majority class.

Wang & Manning 2012, "Baselines and Bigrams": the features are whether an n-gram occurs in a
review, times its naive Bayes log-count ratio ``r = log((p / |p|) / (q / |q|))``, where p and q are
``ALPHA`` plus the number of positive and negative reviews in which it occurs. The classifier is
logistic regression, which unlike an SVM has probabilities and so a loss. With more than two labels,
there is one such classifier for each, against all others, and their probabilities are divided by
their sum. The n-grams are words, pairs and triples of neighbours that occur in at least ``MIN_DF``
reviews. At the end of a review, where its verdict often is, they are features of their own.

They are hashed to the rows of a table (:mod:`imdbtune.models.hashed_ngrams`). With six rows for
each n-gram, the hash costs 0.001 of the loss on IMDB, and no accuracy.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import validation_split
from imdbtune.data.corpus import Split
from imdbtune.data.folds import NO_FOLDS, Folds
from imdbtune.errors import UserError
from imdbtune.models.hashed_ngrams import END, FACTORS, feature_keys, table_rows
from imdbtune.models.metrics.metric import best_names, measure
from imdbtune.models.metrics.predictions import is_right

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]

ALPHA = 1.0  # added to all counts
C = 0.2  # inverse strength of the regularisation
MIN_DF = 2  # minimum number of reviews in which an n-gram occurs
ROWS_PER_NGRAM = 6
MIN_ROWS = 2**16  # so that a small corpus has hardly any collisions
SETTINGS: Mapping[str, object] = {
    "ngrams": ",".join(str(n) for n in range(1, len(FACTORS) + 1)),
    "end": END,
    "alpha": ALPHA,
    "C": C,
    "min_df": MIN_DF,
    "rows_per_ngram": ROWS_PER_NGRAM,
}
MODEL, RESULT, PREDICTED = "linear.npz", "result.json", "validation_probabilities.npy"
CHUNK = 5000  # reviews predicted at a time, which limits the memory
NEVER = -30.0  # bias of the classifier of a label without training reviews


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A trained model: a table with a weight in some of its rows.

    With more than two labels, weights are (features, labels), and the bias is (labels,).
    """

    used: Integers  # (features,), the rows with a weight, increasing, from 1
    weights: Weights  # (features,), weight of the classifier times ratio
    bias: float | Floats
    rows: int  # of the table; row 0 belongs to no n-gram

    def save(self, path: Path) -> None:
        """Write the model as an ``.npz``."""
        np.savez_compressed(
            path,
            used=self.used,
            weights=self.weights,
            bias=np.float64(self.bias),
            rows=np.int64(self.rows),
        )

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read a model that :meth:`save` wrote; no code in the file is run.

        Raises:
            UserError: the file is damaged, or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                used, weights = file["used"].astype(np.int64), file["weights"].astype(np.float32)
                bias = file["bias"].astype(np.float64)
                own_bias = bias if bias.ndim else float(bias)
                model = cls(used, weights, own_bias, int(file["rows"]))
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a linear model of imdbtune: {error}.") from error
        bounds = np.concatenate([[0], used.ravel(), [model.rows]])
        shape = (*used.shape, *bias.shape)
        if used.ndim != 1 or weights.shape != shape or np.any(np.diff(bounds) <= 0):
            raise UserError(f"{path} is not a linear model of imdbtune: its arrays do not match.")
        return model


def fit(split: Split, classes: int = 2) -> LinearModel:
    """Return a model trained on all reviews of ``split``.

    Args:
        split: the reviews.
        classes: number of their labels. The probability of one that no review has is near 0.

    Raises:
        ValueError: all reviews have the same label, or no word occurs in ``MIN_DF`` of them.
    """
    from scipy.sparse import csr_array

    if len(np.unique(split.labels)) < 2:
        raise ValueError("all reviews to train on have the same label")
    # One kind after the other, which limits the memory.
    frequent = [_frequent(*found) for found in occurrences(split)]
    *entries, counts = zip(*frequent, strict=True)
    if not any(counts):
        raise ValueError(f"no word occurs in {MIN_DF} of the reviews to train on")
    size = max(MIN_ROWS, ROWS_PER_NGRAM * sum(counts)) + 1
    reviews, keys = (np.concatenate(parts) for parts in entries)
    reviews, rows = _unique(reviews, table_rows(keys, size), size)
    is_used = np.zeros(size, np.bool_)
    is_used[rows] = True
    used = np.flatnonzero(is_used)
    # liblinear accepts only 32-bit indices.
    columns = (np.cumsum(is_used, dtype=np.int32) - 1)[rows]
    ends = np.cumsum(np.bincount(reviews, minlength=len(split)))
    indices = (columns, np.concatenate([[0], ends]).astype(np.int32))
    occurs = csr_array((np.ones(len(columns)), *indices), shape=(len(split), len(used)))
    if classes == 2:
        return LinearModel(used, *_fit_one(occurs, split.labels == 1), size)
    fitted = [_fit_one(occurs, split.labels == label) for label in range(classes)]
    weights, biases = zip(*fitted, strict=True)
    return LinearModel(used, np.stack(weights, axis=1), np.array(biases), size)


def _fit_one(occurs: csr_array, positive: npt.NDArray[np.bool_]) -> tuple[Weights, float]:
    """Return weights, (features,), and bias of the classifier of one label against the others.

    Args:
        occurs: 1 where a feature occurs in a review, (reviews, features).
        positive: whether a review has the label, (reviews,).
    """
    from sklearn.linear_model import LogisticRegression

    if not positive.any():
        return np.zeros(occurs.shape[1], np.float32), NEVER
    labels = positive.astype(np.int8)
    of_entries = np.repeat(labels, np.diff(occurs.indptr))
    ratios = log_count_ratios(occurs.indices, of_entries, occurs.shape[1])
    matrix = type(occurs)(
        (ratios[occurs.indices], occurs.indices, occurs.indptr), shape=occurs.shape
    )
    # With more features than reviews, the dual problem takes half of the time.
    classifier = LogisticRegression(
        solver="liblinear", C=C, dual=True, tol=1e-6, max_iter=1000, random_state=0
    )
    classifier.fit(matrix, labels)
    weights = (classifier.coef_[0] * ratios).astype(np.float32)
    return weights, float(classifier.intercept_[0])


def occurrences(split: Split) -> Iterator[tuple[Integers, Integers]]:
    """Yield the review and the key of each n-gram, (m,) each, one kind of n-grams after the other.

    Those with an unknown word are left out.
    """
    reviews = np.repeat(np.arange(len(split)), split.lengths)
    for keys, counts in feature_keys(split):
        yield reviews[counts], keys[counts]


def _frequent(reviews: Integers, keys: Integers) -> tuple[Integers, Integers, int]:
    """Return the n-grams that occur in ``MIN_DF`` reviews.

    Returns:
        The review and the key of each, (m,), once in a review; and how many different ones.
    """
    distinct, columns = np.unique(keys, return_inverse=True)
    reviews, columns = _unique(reviews, columns, len(distinct))
    is_frequent = np.bincount(columns, minlength=len(distinct)) >= MIN_DF
    chosen = is_frequent[columns]
    return reviews[chosen], distinct[columns[chosen]], int(np.count_nonzero(is_frequent))


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
    """Return the probability that each review is positive, (n,).

    With more than two labels, it is the probability of each, (n, labels).
    """
    starts = range(0, len(split), CHUNK)
    parts = [_predict(model, split.part(first, first + CHUNK)) for first in starts]
    return np.concatenate([np.empty((0, *model.weights.shape[1:])), *parts])


def _predict(model: LinearModel, split: Split) -> Floats:
    found = zip(*occurrences(split), strict=True)
    reviews, keys = (np.concatenate(parts) for parts in found)
    reviews, rows = _unique(reviews, table_rows(keys, model.rows), model.rows)
    sums = [
        np.bincount(reviews, weights=weights[rows], minlength=len(split))
        for weights in np.atleast_2d(as_table(model).T)
    ]
    if model.weights.ndim == 1:
        return np.asarray(1 / (1 + np.exp(-(model.bias + sums[0]))), np.float64)
    each = 1 / (1 + np.exp(-(model.bias + np.stack(sums, axis=1))))
    return np.asarray(each / each.sum(axis=1, keepdims=True), np.float64)


def as_table(model: LinearModel) -> Weights:
    """Return the table of a model, (rows,) or (rows, labels), with the bias in row 0."""
    table = np.zeros((model.rows, *model.weights.shape[1:]), np.float32)
    table[0], table[model.used] = model.bias, model.weights
    return table


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


def train_linear(split: Split, folds: Folds = NO_FOLDS, classes: int = 2) -> Trained:
    """Train on the training part of ``split``, and measure on both parts.

    Args:
        split: the training reviews of the search.
        folds: train for each; the model is that of the fold with the best accuracy.
        classes: number of labels.
    """
    import sklearn.linear_model  # noqa: F401 - importing takes seconds, not to be counted

    if not folds.count:
        return _train_on(*train_and_validation(split), classes)
    trained = [_train_on(*parts, classes) for parts in _fold_parts(split, folds)]
    best = max(trained, key=lambda each: each.metrics["best_val_accuracy"])
    seconds = sum(each.metrics["train_seconds"] for each in trained)
    fold_of = folds.assign(split.labels)
    predicted = np.empty((len(split), *trained[0].predicted.shape[1:]))
    for fold, each in enumerate(trained):
        predicted[fold_of == fold] = each.predicted
    means = _mean_metrics([each.metrics for each in trained])
    metrics = {**best.metrics, **means, "train_seconds": seconds}
    return Trained(best.model, metrics, predicted, is_right(split.labels, predicted))


def _mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over folds of each value that a metric has."""
    return {name: fmean(each[name] for each in metrics) for name in best_names()}


def _train_on(training: Split, validation: Split, classes: int) -> Trained:
    started = time.monotonic()
    model = fit(training, classes)
    seconds = time.monotonic() - started
    weights = float(model.weights.size + np.size(model.bias))
    size = {"features": float(len(model.used)), "parameter_count": weights}
    predicted = predict(model, validation)
    metrics = _metrics(training, predict(model, training), validation, predicted)
    right = is_right(validation.labels, predicted)
    return Trained(model, {**metrics, "train_seconds": seconds, **size}, predicted, right)


def measure_majority(split: Split, folds: Folds = NO_FOLDS, classes: int = 2) -> dict[str, float]:
    """Return the metrics of a constant: the share of positive labels in the training part.

    With more than two labels, it is the share of each. With folds, they are the means over these.
    """
    if not folds.count:
        return _measure_constant(*train_and_validation(split), classes)
    measured = [_measure_constant(*parts, classes) for parts in _fold_parts(split, folds)]
    return {**measured[0], **_mean_metrics(measured)}


def _measure_constant(training: Split, validation: Split, classes: int) -> dict[str, float]:
    if classes == 2:
        share = float(training.labels.mean()) if len(training) else 0.5
        constant = [np.full(len(part), share) for part in (training, validation)]
    else:
        counts = np.bincount(training.labels, minlength=classes)
        shares = counts / max(1, len(training))
        constant = [np.tile(shares, (len(part), 1)) for part in (training, validation)]
    metrics = _metrics(training, constant[0], validation, constant[1])
    return {**metrics, "train_seconds": 0.0, "parameter_count": 1.0}


def _metrics(
    training: Split, fitted: Floats, validation: Split, predicted: Floats
) -> dict[str, float]:
    found = {f"best_{name}": value for name, value in measure(training.labels, fitted).items()}
    on_validation = measure(validation.labels, predicted)
    return found | {f"best_val_{name}": value for name, value in on_validation.items()}
