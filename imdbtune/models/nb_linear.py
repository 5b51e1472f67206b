"""A linear model on words and pairs of words, and the larger class: what a search has to beat.

Wang & Manning 2012, "Baselines and Bigrams": whether a word or pair occurs in a review, weighted
with the naive Bayes log-count ratio r = log((p / |p|) / (q / |q|)), where p and q count, from
``ALPHA`` on, the positive and the negative reviews in which it occurs; then a linear classifier,
here logistic regression, which has a loss as well.

A word is named by its id, a pair of neighbours a, b by a * vocabulary + b. There is no word 0.
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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import validation_split
from imdbtune.data.corpus import Corpus, Split, read_corpus
from imdbtune.errors import UserError
from imdbtune.models.metrics import measure

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ALPHA = 1.0  # added to all counts
C = 0.1  # inverse strength of the regularisation
MIN_DF = 2  # reviews in which a word or pair must occur
SETTINGS: Mapping[str, object] = {"ngrams": "1,2", "alpha": ALPHA, "C": C, "min_df": MIN_DF}
MODEL, RESULT = "linear.npz", "result.json"
CHUNK = 5000  # reviews that are predicted at a time, for memory
NICE = 19  # the trials come first


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A trained model: all that :func:`predict` needs."""

    keys: Integers  # (features,), rising
    weights: npt.NDArray[np.float32]  # (features,), weight of the classifier times ratio
    bias: float
    vocabulary: int  # ids from here on were not seen in training

    def save(self, path: Path) -> None:
        """Write it as an ``.npz``."""
        np.savez_compressed(
            path,
            keys=self.keys,
            weights=self.weights,
            bias=np.float64(self.bias),
            vocabulary=np.int64(self.vocabulary),
        )

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read what :meth:`save` has written; nothing in the file is run.

        Raises:
            UserError: it is something else, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                keys, weights = file["keys"].astype(np.int64), file["weights"].astype(np.float32)
                model = cls(keys, weights, float(file["bias"]), int(file["vocabulary"]))
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is no linear model of imdbtune: {error}.") from error
        if keys.ndim != 1 or keys.shape != weights.shape or np.any(np.diff(keys) <= 0):
            raise UserError(f"{path} is no linear model of imdbtune: its arrays do not fit.")
        return model


def fit(split: Split) -> LinearModel:
    """Train on all reviews of ``split``.

    Raises:
        ValueError: they have the same label, or no word occurs in ``MIN_DF`` of them.
    """
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(split.labels)) < 2:
        raise ValueError("all reviews to train on have the same label")
    vocabulary = int(split.tokens.max(initial=0)) + 1
    rows, keys = terms(split, vocabulary)
    keys, columns = np.unique(keys, return_inverse=True)
    rows, columns = _once(rows, columns, len(keys))
    kept = np.bincount(columns, minlength=len(keys)) >= MIN_DF
    chosen = kept[columns]
    rows, columns = rows[chosen], (np.cumsum(kept) - 1)[columns[chosen]]
    keys = keys[kept]
    if not len(keys):
        raise ValueError(f"no word occurs in {MIN_DF} of the reviews to train on")
    ratios = log_count_ratios(columns, split.labels[rows], len(keys))
    ends = np.cumsum(np.bincount(rows, minlength=len(split)))
    shape = (len(split), len(keys))
    # liblinear takes 32-bit indices only.
    place = (columns.astype(np.int32), np.concatenate([[0], ends]).astype(np.int32))
    matrix = csr_array((ratios[columns], *place), shape=shape)
    classifier = LogisticRegression(solver="liblinear", C=C).fit(matrix, split.labels)
    weights = (classifier.coef_[0] * ratios).astype(np.float32)
    return LinearModel(keys, weights, float(classifier.intercept_[0]), vocabulary)


def terms(split: Split, vocabulary: int) -> tuple[Integers, Integers]:
    """Row and key of every word and every pair of neighbours; ids from ``vocabulary`` on are none.

    A pair lies within one review.
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


def _once(rows: Integers, columns: Integers, width: int) -> tuple[Integers, Integers]:
    """Each (row, column) once, in order: counts are binarised."""
    entries = np.sort(rows * width + columns)
    # np.unique, which hashes, takes ten times as long where nearly all differ.
    entries = entries[np.diff(entries, prepend=-1) > 0]
    rows = entries // width
    return rows, entries - rows * width


def log_count_ratios(columns: Integers, labels: npt.NDArray[np.int8], width: int) -> Floats:
    """The log-count ratio of each of ``width`` features, (width,).

    Args:
        columns: the feature of each occurrence of one in a review, (m,).
        labels: the label of that review, (m,).
    """
    p = ALPHA + np.bincount(columns[labels == 1], minlength=width)
    q = ALPHA + np.bincount(columns[labels == 0], minlength=width)
    return np.asarray(np.log((p / p.sum()) / (q / q.sum())), np.float64)


def predict(model: LinearModel, split: Split) -> Floats:
    """The probability of each review to be positive, (n,)."""
    starts = range(0, len(split), CHUNK)
    parts = [_predict(model, split.part(first, first + CHUNK)) for first in starts]
    return np.concatenate([np.empty(0), *parts])


def _predict(model: LinearModel, split: Split) -> Floats:
    rows, keys = terms(split, model.vocabulary)
    places = np.searchsorted(model.keys, keys)
    places[places == len(model.keys)] = 0
    found = model.keys[places] == keys if len(model.keys) else np.zeros(len(keys), bool)
    rows, columns = _once(rows[found], places[found], len(model.keys))
    sums = np.bincount(rows, weights=model.weights[columns], minlength=len(split))
    return np.asarray(1 / (1 + np.exp(-(model.bias + sums))), np.float64)


def halves(split: Split) -> tuple[Split, Split]:
    """The reviews that the trials of a search train on, and those that they are measured on."""
    first = len(validation_split(len(split))[0])
    return split.part(0, first), split.part(first, len(split))


def train_linear(split: Split) -> tuple[LinearModel, dict[str, float]]:
    """The linear model on the training part of ``split``, and its metrics, named as a trial's."""
    import sklearn.linear_model  # noqa: F401 - takes seconds that are not the training's

    training, validation = halves(split)
    began = time.monotonic()
    model = fit(training)
    size = {"features": float(len(model.keys)), "parameter_count": len(model.keys) + 1.0}
    seconds = time.monotonic() - began
    reached = _metrics(training, predict(model, training), validation, predict(model, validation))
    return model, {**reached, "train_seconds": seconds, **size}


def measure_majority(split: Split) -> dict[str, float]:
    """The metrics of one who knows only how frequent the labels are in training."""
    training, validation = halves(split)
    share = float(training.labels.mean()) if len(training) else 0.5
    constant = [np.full(len(part), share) for part in (training, validation)]
    reached = _metrics(training, constant[0], validation, constant[1])
    return {**reached, "train_seconds": 0.0, "parameter_count": 1.0}


def _metrics(
    training: Split, fitted: Floats, validation: Split, predicted: Floats
) -> dict[str, float]:
    on_training = measure(fitted, training.labels)
    on_validation = measure(predicted, validation.labels)
    return {
        **{f"best_{name}": value for name, value in on_training.items()},
        **{f"best_val_{name}": value for name, value in on_validation.items()},
    }


def main(given: Mapping[str, Any]) -> None:
    """Train the linear model in a process beside a search, and leave it with its metrics.

    Args:
        given: ``corpus``, its folder; ``reviews``, as in a search; ``out``, a folder that is there.
    """
    _come_second()
    training = read_corpus(Path(given["corpus"])).train
    model, metrics = train_linear(training.head(given["reviews"] or len(training)))
    out = Path(given["out"])
    model.save(out / MODEL)
    (out / RESULT).write_text(json.dumps(metrics), encoding="utf-8")


def kept_folder(corpus: Corpus, reviews: int) -> Path:
    """Where the linear model of these reviews is kept: the next search has no need to train it."""
    version = importlib.metadata.version("scikit-learn")
    decides = json.dumps([corpus.digest, reviews, dict(SETTINGS), version])
    return corpus.folder.parent / f"linear-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"


def is_whole(kept: Path) -> bool:
    """Whether a model and its metrics are kept there, and can be read."""
    try:
        LinearModel.load(kept / MODEL)
        return isinstance(json.loads((kept / RESULT).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, UserError):
        return False


def keep(out: Path, kept: Path) -> None:
    """Keep a model and its metrics, in the place of what cannot be read there."""
    with suppress(OSError):  # it can be trained again
        aside = Path(tempfile.mkdtemp(prefix=f"{kept.name}-", dir=kept.parent))
        try:
            shutil.copytree(out, aside, dirs_exist_ok=True)
            shutil.rmtree(kept, ignore_errors=True)
            aside.rename(kept)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _come_second() -> None:
    """Let this process end with the one that started it, and before it where memory runs out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _end_with_parent() -> None:
    """Standard input is a pipe whose other end the parent has open as long as it lives."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
