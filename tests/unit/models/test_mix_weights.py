"""The weights of a mix: found again where they are known, and honest where there is nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imdbtune.models import mix_weights
from imdbtune.models.metrics.metric import measure

Floats = npt.NDArray[np.float64]


def drawn(weights: list[float], count: int, seed: int = 0) -> tuple[Floats, npt.NDArray[np.int_]]:
    """Logits of models, and labels with the probabilities of their mix by these weights."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(scale=2, size=(count, 1))
    logits = shared + rng.normal(size=(count, len(weights)))
    return logits, (rng.random(count) < mix_weights.mix(logits, np.array(weights))).astype(int)


def test_known_weights_are_found_again() -> None:
    logits, labels = drawn([0.2, 0.0, 0.7], 20_000)
    fitted = mix_weights.fit_weights(logits, labels)
    np.testing.assert_allclose(fitted, [0.2, 0, 0.7], atol=0.04)
    assert (fitted >= 0).all()


def test_a_model_that_is_wrong_gets_no_weight() -> None:
    logits, labels = drawn([0.0, 1.0], 2000)
    logits[:, 0] = -logits[:, 1]
    assert mix_weights.fit_weights(logits, labels)[0] == 0


def test_few_reviews_that_are_all_right_keep_the_weights_finite() -> None:
    labels = np.array([0, 1, 1])
    logits = np.where(labels[:, None] == 1, 5.0, -5.0) * np.ones(3)
    fitted = mix_weights.fit_weights(logits, labels)
    assert np.ptp(fitted) < 1e-6
    assert 1 / 3 < fitted[0] < 1


def test_no_review_is_measured_by_weights_that_have_seen_it() -> None:
    logits, labels = drawn([0.5, 0.5], 50)
    before = mix_weights.cross_fitted(logits, labels)
    for review in range(10):
        changed = labels.copy()
        changed[review] = 1 - changed[review]
        after = mix_weights.cross_fitted(logits, changed)
        same_fold = np.arange(len(labels)) % mix_weights.FOLDS == review % mix_weights.FOLDS
        np.testing.assert_array_equal(after[same_fold], before[same_fold])
        assert not np.allclose(after[~same_fold], before[~same_fold], atol=1e-6)


def test_cross_fitting_is_not_flattered_by_models_that_know_nothing() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 30)), rng.integers(0, 2, 200)
    fitted = mix_weights.mix(logits, mix_weights.fit_weights(logits, labels))
    honest = mix_weights.cross_fitted(logits, labels)
    assert measure(labels, fitted)["loss"] < np.log(2) - 0.02  # as if it had learned something
    assert measure(labels, honest)["loss"] > np.log(2)


def test_weights_are_logged_by_name_and_read_again() -> None:
    logged = mix_weights.as_metrics(np.array([0.3, 0.7]))
    assert logged == {"weight_networks": 0.3, "weight_linear": 0.7}
    assert mix_weights.from_metrics({"best_loss": 0.3, **logged}) == (0.3, 0.7)
    assert mix_weights.from_metrics({"best_loss": 0.3}) == ()


def test_logits_of_networks_are_averaged_and_finite() -> None:
    networks = [np.array([0.25, 0.5, 1.0]), np.array([0.5, 0.5, 1.0])]
    found = mix_weights.logits_of_mix(networks, np.array([0.75, 0.5, 0.0]))
    largest = np.log((1 - mix_weights.EPSILON) / mix_weights.EPSILON)
    expected = [[-np.log(3) / 2, np.log(3)], [0, 0], [largest, -largest]]
    np.testing.assert_allclose(found, expected)
