"""What is said of models on the same reviews is true on average: simulated, with known truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from imdbtune.models.metrics.metric import CORRECTNESS_FILE
from imdbtune.report import findings
from imdbtune.report.against_linear import find_comparison
from imdbtune.report.page_data import read_report_data, uncertainty_of
from imdbtune.report.paired import critical_differences, excess_of_the_best, uncertainty_data
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Baseline
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.support import make_config, run_search, stub_trainer

REVIEWS = 1000
COMMON = 0.75  # share of what decides a prediction that is the review's, not the model's


def draw(accuracies: Sequence[float], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Predictions of models with these true accuracies: (models, reviews)."""
    own = rng.standard_normal((len(accuracies), REVIEWS))
    difficulty = math.sqrt(COMMON) * rng.standard_normal(REVIEWS) + math.sqrt(1 - COMMON) * own
    limits = [NormalDist().inv_cdf(accuracy) for accuracy in accuracies]
    return np.asarray(difficulty < np.array(limits)[:, None])


@pytest.mark.parametrize("count", [2, 6, 12])
def test_equal_models_are_told_apart_in_at_most_five_of_a_hundred_cases(count: int) -> None:
    rng, wrong = np.random.default_rng(count), 0
    for _ in range(300):
        right = draw([0.88] * count, rng)
        accuracies = right.mean(axis=1)
        best = int(accuracies.argmax())
        gaps = accuracies[best] - accuracies
        wrong += bool((gaps > critical_differences(right, best)).any())
    assert 0.005 < wrong / 300 < 0.09


@pytest.mark.parametrize(
    "accuracies",
    [
        [0.88] * 3,
        [0.88] * 12,
        [0.88] * 12 + [0.6] * 6,
        np.linspace(0.84, 0.89, 20).tolist(),
        np.linspace(0.6, 0.9, 10).tolist(),
    ],
    ids=["three equals", "twelve equals", "twelve and worse ones", "near", "far"],
)
def test_the_best_exceeds_its_true_accuracy_by_as_much_as_is_said(
    accuracies: list[float],
) -> None:
    rng = np.random.default_rng(1)
    claimed, true = [], []
    for _ in range(80):
        right = draw(accuracies, rng)
        best = int(right.mean(axis=1).argmax())
        claimed.append(excess_of_the_best(right))
        true.append(float(right[best].mean()) - accuracies[best])
    error = float(np.std(true)) / math.sqrt(len(true))
    assert abs(np.mean(claimed) - np.mean(true)) < 3 * error + 0.0015


def test_models_with_the_same_predictions_are_not_flattered() -> None:
    right = np.tile(np.random.default_rng(0).random(REVIEWS) < 0.88, (4, 1))
    assert excess_of_the_best(right) == 0.0
    found = uncertainty_data([float(right[0].mean())] * 4, list(right[:, None]))
    assert found.indistinguishable == 4
    assert excess_of_the_best(right[:1]) == 0.0


def predicting(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    """Predictions of 400 reviews, worse by a few with fewer units."""
    result = stub_trainer(spec, on_epoch)
    accuracies = np.array([epoch["val_accuracy"] for epoch in result.history])
    return replace(result, right=np.arange(400) >= 400 * (1 - accuracies[:, None]))


def test_a_report_and_the_comparison_read_the_predictions(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    _, search = run_search(config, tmp_path, trainer=predicting)
    client = connect(config.tracking.uri)
    trials = reader.read_trials(client, search)
    data = read_report_data(client, search, trials)
    found = uncertainty_of(data)
    assert (found.is_paired, found.reviews, found.trials) == (True, 400, len(trials))
    # The linear model is right about all but the first reviews, as the best trial is about fewer.
    run = client.create_run(search.experiment_id)
    linear = Baseline(run.info.run_id, mlflow_names.LINEAR, "FINISHED", {findings.ACCURACY: 0.5})
    independent = find_comparison(client, search, trials, [linear])
    right = np.arange(400) >= 200
    np.save(tmp_path / CORRECTNESS_FILE, right)
    client.log_artifact(run.info.run_id, str(tmp_path / CORRECTNESS_FILE))
    paired = find_comparison(client, search, trials, [linear])
    assert independent is not None
    assert paired is not None
    assert paired.margin == independent.margin
    share = abs(paired.margin or 0.0)
    expected = 1.966 * math.sqrt(share * (1 - share) / 399)
    assert paired.half_width == pytest.approx(expected, rel=0.01)
    assert paired.half_width < independent.half_width
