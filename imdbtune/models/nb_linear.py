"""The baselines of a search: a linear model on words and word pairs, and the majority class.

Wang & Manning 2012, "Baselines and Bigrams": the features are whether a word or pair occurs in a
review, times its naive Bayes log-count ratio ``r = log((p / |p|) / (q / |q|))``, where p and q are
``ALPHA`` plus the number of positive and negative reviews in which it occurs. The classifier is
logistic regression, which unlike an SVM has probabilities and so a loss. With more than two labels,
there is one such classifier for each, against all others, and their probabilities are divided by
their sum.

The key of a word is its id, that of a pair of neighbours (a, b) is a * vocabulary + b. There is no
word 0.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import validation_split
from imdbtune.data.corpus import Split, read_corpus
from imdbtune.data.folds import NO_FOLDS, Folds
from imdbtune.errors import UserError
from imdbtune.models.background import run_in_background
from imdbtune.models.metrics.metric import CORRECTNESS_FILE, best_names, measure
from imdbtune.models.metrics.predictions import is_right

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]

ALPHA = 1.0  # added to all counts
C = 0.1  # inverse strength of the regularisation
MIN_DF = 2  # minimum number of reviews in which a word or pair occurs
SETTINGS: Mapping[str, object] = {"ngrams": "1,2", "alpha": ALPHA, "C": C, "min_df": MIN_DF}
MODEL, RESULT, PREDICTED = "linear.npz", "result.json", "validation_probabilities.npy"
CHUNK = 5000  # reviews predicted at a time, which limits the memory
NEVER = -30.0  # bias of the classifier of a label without training reviews


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A trained model.

    With more than two labels, weights are (features, labels), and the bias is (labels,).
    """

    keys: Integers  # (features,), increasing
    weights: Weights  # (features,), weight of the classifier times ratio
    bias: float | Floats
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
                bias = file["bias"].astype(np.float64)
                own_bias = bias if bias.ndim else float(bias)
                model = cls(keys, weights, own_bias, int(file["vocabulary"]))
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a linear model of imdbtune: {error}.") from error
        shape = (*keys.shape, *bias.shape)
        if keys.ndim != 1 or weights.shape != shape or np.any(np.diff(keys) <= 0):
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
    ends = np.cumsum(np.bincount(rows, minlength=len(split)))
    # liblinear accepts only 32-bit indices.
    indices = (columns.astype(np.int32), np.concatenate([[0], ends]).astype(np.int32))
    occurs = csr_array((np.ones(len(columns)), *indices), shape=(len(split), len(keys)))
    if classes == 2:
        return LinearModel(keys, *_fit_one(occurs, split.labels == 1), vocabulary)
    fitted = [_fit_one(occurs, split.labels == label) for label in range(classes)]
    weights, biases = zip(*fitted, strict=True)
    return LinearModel(keys, np.stack(weights, axis=1), np.array(biases), vocabulary)


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
    classifier = LogisticRegression(solver="liblinear", C=C).fit(matrix, labels)
    weights = (classifier.coef_[0] * ratios).astype(np.float32)
    return weights, float(classifier.intercept_[0])


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
    """Return the probability that each review is positive, (n,).

    With more than two labels, it is the probability of each, (n, labels).
    """
    starts = range(0, len(split), CHUNK)
    parts = [_predict(model, split.part(first, first + CHUNK)) for first in starts]
    return np.concatenate([np.empty((0, *model.weights.shape[1:])), *parts])


def _predict(model: LinearModel, split: Split) -> Floats:
    rows, keys = terms(split, model.vocabulary)
    columns = np.searchsorted(model.keys, keys)
    columns[columns == len(model.keys)] = 0
    found = model.keys[columns] == keys if len(model.keys) else np.zeros(len(keys), bool)
    rows, columns = _unique(rows[found], columns[found], len(model.keys))
    sums = [
        np.bincount(rows, weights=weights[columns], minlength=len(split))
        for weights in np.atleast_2d(model.weights.T)
    ]
    if model.weights.ndim == 1:
        return np.asarray(1 / (1 + np.exp(-(model.bias + sums[0]))), np.float64)
    each = 1 / (1 + np.exp(-(model.bias + np.stack(sums, axis=1))))
    return np.asarray(each / each.sum(axis=1, keepdims=True), np.float64)


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
    size = {"features": float(len(model.keys)), "parameter_count": weights}
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
    run_in_background()
    corpus = read_corpus(Path(job["corpus"]))
    used = corpus.train.head(job["reviews"] or len(corpus.train))
    trained = train_linear(used, Folds(*job["folds"]), len(corpus.labels))
    out = Path(job["out"])
    trained.model.save(out / MODEL)
    np.save(out / PREDICTED, trained.predicted)
    np.save(out / CORRECTNESS_FILE, trained.right)
    (out / RESULT).write_text(json.dumps(trained.metrics), encoding="utf-8")
