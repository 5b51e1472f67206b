"""Metrics of real trainings: what is logged is what scikit-learn finds in the predictions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from imdbtune.config.own_code import OwnCode
from imdbtune.config.own_metric import OwnMetric
from imdbtune.config.own_source import OwnSource
from imdbtune.data.corpus import Corpus
from imdbtune.errors import TrialFailed
from imdbtune.models.metrics import bootstrap
from imdbtune.training.evaluation import evaluate_model, probabilities
from imdbtune.training.spec import TrialResult, TrialSpec
from imdbtune.training.trainer import train_trial
from imdbtune.training.trial_metrics import find_metrics
from tests.contract.test_checkpoints import Trained, assert_continues, train_whole
from tests.contract.test_trainer import (
    HELD_OUT,
    REVIEWS,
    small_corpus,
    small_spec,
    steps_taken,
    with_settings,
)

SOURCE = """
def brier(labels, probabilities):
    return ((probabilities - labels) ** 2).mean()

def fails(labels, probabilities):
    raise ZeroDivisionError("no reviews")
"""
pytestmark = pytest.mark.xdist_group("trained_metrics")  # one process trains ``trained``
FURTHER = "f1,auc,balanced_accuracy,log_loss,brier"
HOW: dict[str, Any] = {"learning_rate": 0.02, "batch_size": 32}


def own(name: str) -> OwnMetric:
    return OwnMetric(OwnSource("mine.py", name, SOURCE), larger_is_better=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("metrics") / "corpus", separable=True)


def spec_of(corpus: Corpus, folder: Path, objective: str = "val_f1") -> TrialSpec:
    spec = small_spec(
        corpus, folder, objective=objective, metrics=FURTHER, learning_rate=0.02, batch_size=32
    )
    return replace(spec, code=OwnCode(metrics=(own("brier"),)))


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    spec = spec_of(corpus, tmp_path_factory.mktemp("trained") / "whole")
    return train_whole(replace(spec, checkpoint_after_s=0.0))


@pytest.fixture
def trained(whole: Trained) -> TrialResult:
    return whole.result


def test_the_best_epoch_has_the_metrics_of_its_model(corpus: Corpus, trained: TrialResult) -> None:
    rows = np.arange(REVIEWS - HELD_OUT, REVIEWS)
    spec = small_spec(corpus, Path())
    predicted = probabilities(trained.model, corpus.train, rows, spec.params, padded=False)
    labels = corpus.train.labels[rows]
    expected = {
        "f1": sklearn.metrics.f1_score(labels, predicted > 0.5),
        "auc": sklearn.metrics.roc_auc_score(labels, predicted),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(labels, predicted > 0.5),
        "log_loss": sklearn.metrics.log_loss(labels, predicted),
        "brier": sklearn.metrics.brier_score_loss(labels, predicted),
    }
    found = {name: trained.best[f"val_{name}"] for name in expected}
    assert found == pytest.approx(expected, abs=1e-5)
    assert trained.score == max(epoch["val_f1"] for epoch in trained.history)
    assert 0 <= trained.best["f1"] <= 1  # of the steps of training
    assert trained.draws is not None
    assert trained.draws.mean() == pytest.approx(trained.score)
    assert trained.errors == {"val_f1_error": bootstrap.standard_error(trained.draws)}
    assert trained.measured["val_brier"] == trained.best["val_brier"]


def test_more_metrics_change_nothing_else(
    corpus: Corpus, trained: TrialResult, tmp_path: Path
) -> None:
    plain = train_trial(small_spec(corpus, tmp_path, **HOW))
    names = ("epoch", "accuracy", "loss", "val_accuracy", "val_loss")
    pairs = zip(plain.history, trained.history, strict=True)
    for one, other in pairs:
        assert list(one) == [*names, "seconds"]
        assert [one[name] for name in names] == [other[name] for name in names]
    assert plain.draws is None
    assert plain.errors == {}


def test_smaller_values_can_be_better(corpus: Corpus, tmp_path: Path) -> None:
    spec = with_settings(spec_of(corpus, tmp_path, "val_brier"), epochs=4, patience=1)
    result = train_trial(spec)
    assert result.score == min(epoch["val_brier"] for epoch in result.history)
    assert list(result.errors) == ["val_brier_error"]
    everywhere = find_metrics(spec)
    tested = evaluate_model(result.model, corpus.test, spec.params, False, metrics=everywhere)
    assert list(tested) == [f"test_{name}" for name in ("accuracy", "loss", *FURTHER.split(","))]


@pytest.mark.parametrize("batching", ["buckets", "padded"])
def test_without_validation_the_training_steps_are_measured(
    batching: str, corpus: Corpus, tmp_path: Path
) -> None:
    """Those of all reviews."""
    spec = with_settings(spec_of(corpus, tmp_path), hold_out=False, epochs=1, batching=batching)
    result = train_trial(replace(spec, keep_state=True))
    assert result.state is not None
    assert steps_taken(result.state) == math.ceil(REVIEWS / HOW["batch_size"])
    assert result.score == result.history[-1]["f1"]
    assert result.draws is None
    assert not [name for name in result.history[-1] if name.startswith("val_")]


def test_a_continued_attempt_ends_with_the_same_draws(whole: Trained) -> None:
    again = assert_continues(whole)
    assert whole.result.draws is not None
    np.testing.assert_array_equal(again.draws, whole.result.draws)


def test_a_metric_that_raises_fails_its_trial(corpus: Corpus, tmp_path: Path) -> None:
    spec = small_spec(corpus, tmp_path, metrics="fails", epochs=1)
    with pytest.raises(TrialFailed, match=r"mine.py:6: fails raises ZeroDivisionError: no reviews"):
        train_trial(replace(spec, code=OwnCode(metrics=(own("fails"),))))
