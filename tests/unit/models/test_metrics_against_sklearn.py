"""The metrics are those of scikit-learn, for two labels and for several classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imdbtune.config.extensions import METRICS
from imdbtune.models.metrics import bootstrap

sklearn = pytest.importorskip("sklearn.metrics")

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def several(classes: int, count: int = 300, seed: int = 0) -> tuple[Labels, Floats]:
    """Labels of unequal shares, and probabilities that are better than chance; some are equal."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = rng.choice(classes, count, p=shares)
    scores = rng.random((count, classes)) + 0.6 * np.eye(classes)[labels]
    scores = np.round(scores, 1) + 0.05  # so that there are ties
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    return labels, probabilities if classes > 2 else probabilities[:, 1]


def most_probable(probabilities: Floats) -> Labels:
    return probabilities.argmax(1) if probabilities.ndim > 1 else (probabilities > 0.5).astype(int)


REFERENCES: dict[str, Callable[[Labels, Floats], Any]] = {
    "accuracy": lambda y, p: sklearn.accuracy_score(y, most_probable(p)),
    "balanced_accuracy": lambda y, p: sklearn.balanced_accuracy_score(y, most_probable(p)),
    "f1": lambda y, p: sklearn.f1_score(
        y, most_probable(p), average="binary" if p.ndim == 1 else "macro"
    ),
    "auc": lambda y, p: sklearn.roc_auc_score(y, p, multi_class="ovr", average="macro"),
    "log_loss": sklearn.log_loss,
    "loss": sklearn.log_loss,
}


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("name", REFERENCES)
def test_values_are_those_of_scikit_learn(name: str, classes: int) -> None:
    labels, probabilities = several(classes)
    expected = float(REFERENCES[name](labels, probabilities))
    assert METRICS[name].measure(labels, probabilities) == pytest.approx(expected, abs=1e-12)


def test_all_built_in_metrics_are_compared() -> None:
    assert {*METRICS} == {*REFERENCES}


@pytest.mark.parametrize("name", ["f1", "balanced_accuracy"])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_classes_that_no_review_has_do_not_count(name: str) -> None:
    labels, probabilities = several(4)
    kept = labels != 2
    labels, probabilities = labels[kept], probabilities[kept]
    expected = float(REFERENCES[name](labels, probabilities))
    assert METRICS[name].measure(labels, probabilities) == pytest.approx(expected)


def test_one_label_alone_has_no_auc_and_no_f1() -> None:
    labels, probabilities = np.zeros(5, np.int64), np.linspace(0.1, 0.4, 5)
    assert math.isnan(METRICS["auc"].measure(labels, probabilities))
    assert METRICS["f1"].measure(labels, probabilities) == 0.0


def test_the_bootstrap_finds_the_error_of_an_accuracy() -> None:
    """Its formula is known, so it shows what the draws are worth."""
    labels, probabilities = several(2, count=2000)
    metric = METRICS["accuracy"]
    value = metric.measure(labels, probabilities)
    draws = bootstrap.resample(metric, labels, probabilities)
    assert draws.mean() == pytest.approx(value)
    error = metric.standard_error
    assert error is not None
    assert bootstrap.standard_error(draws) == pytest.approx(error(value, 2000), rel=0.15)


def test_draws_of_two_models_are_paired() -> None:
    """The difference of a model from itself has no error, and from a like one a small one."""
    labels, probabilities = several(2, count=1000)
    other = np.clip(probabilities + 0.003, 0, 1)
    first, again = (bootstrap.resample(METRICS["f1"], labels, probabilities) for _ in range(2))
    second = bootstrap.resample(METRICS["f1"], labels, other)
    assert (first == again).all()
    assert bootstrap.standard_error(second - first) < bootstrap.standard_error(first)


def test_a_resample_without_a_value_does_not_count() -> None:
    """One of two reviews is positive, so that half of the resamples have no AUC."""
    labels, probabilities = np.array([0, 1]), np.array([0.2, 0.8])
    draws = bootstrap.resample(METRICS["auc"], labels, probabilities)
    assert (draws == 1.0).all()
