"""Metrics: what NumPy and Keras compute is the same, and logged values find their metric."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imdbtune.config.extensions import METRICS
from imdbtune.config.objectives import larger_is_better
from imdbtune.config.schema import parse_config
from imdbtune.errors import UserError
from imdbtune.models.metrics.metric import best_names, epoch_names, find_metric, format_value
from imdbtune.models.metrics.metric import measure as measure_all

PROBABILITIES = np.array([0.9, 0.6, 0.5, 0.2, 0.1])
LABELS = np.array([1, 0, 1, 0, 1])


def test_values_of_a_few_reviews() -> None:
    found = measure_all(LABELS, PROBABILITIES)
    assert list(found) == ["accuracy", "loss"]
    assert found["accuracy"] == pytest.approx(2 / 5)
    losses = [math.log(p) for p in (0.9, 0.4, 0.5, 0.8, 0.1)]
    assert found["loss"] == pytest.approx(-sum(losses) / 5)


def test_certainty_that_is_wrong_has_a_finite_loss() -> None:
    assert measure_all(np.array([1]), np.array([0.0]))["loss"] == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("shape", [(64, 1), (64,)])
@pytest.mark.parametrize("softness", [0.0, 0.3])
def test_keras_computes_the_same(softness: float, shape: tuple[int, ...]) -> None:
    """Also for soft labels, whose more probable side counts, and for labels without a column."""
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random(64), rng.integers(0, 2, 64)
    soft = labels * (1 - softness) + 0.5 * softness
    for name, metric in METRICS.items():
        if metric.in_keras is None:
            continue
        computed = metric.in_keras(name)
        computed.update_state(soft.reshape(shape), probabilities[:, None])
        assert computed.name == name
        assert float(computed.result()) == pytest.approx(metric.measure(labels, probabilities))


def test_names_of_logged_values() -> None:
    assert epoch_names() == ("accuracy", "loss", "val_accuracy", "val_loss")
    assert best_names() == ("best_val_accuracy", "best_val_loss", "best_accuracy", "best_loss")


@pytest.mark.parametrize(
    ("logged", "name"),
    [
        ("accuracy", "accuracy"),
        ("best_val_loss", "loss"),
        ("test_accuracy", "accuracy"),
        ("confirmed_val_accuracy", "accuracy"),
        ("val_log_loss", "log_loss"),
        ("best_val_accuracy_std", None),
        ("best_val_f1_error", None),
        ("train_seconds", None),
        ("gloss", None),
        ("", None),
    ],
)
def test_a_logged_value_finds_its_metric(logged: str, name: str | None) -> None:
    assert find_metric(logged) is (METRICS[name] if name else None)


def test_a_name_may_end_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    added = {"hinge_loss": "imdbtune.models.metrics.accuracy:ACCURACY"}
    monkeypatch.setattr(METRICS, "added", added)
    assert find_metric("best_hinge_loss") is METRICS["hinge_loss"]
    assert find_metric("best_loss") is METRICS["loss"]
    assert find_metric("best_val_my_accuracy") is None


def test_values_as_text() -> None:
    assert format_value("val_accuracy", 0.87654321) == "0.8765"
    assert format_value("anything", 2.0) == "2.0000"


def test_objectives_have_a_direction() -> None:
    assert larger_is_better("val_accuracy")
    assert not larger_is_better("val_loss")
    assert not parse_config({"tuner": {"objective": "val_loss"}}).larger_is_better
    with pytest.raises(UserError, match="metric 'f2' is not known; allowed: accuracy, loss"):
        larger_is_better("val_f2")
