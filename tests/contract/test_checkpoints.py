"""Trainings that end after an epoch and are continued: to the last digit as undisturbed ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from imdbtune.data.corpus import Corpus
from imdbtune.training.saved_state import checkpoint_path
from imdbtune.training.spec import Epoch, TrialResult, TrialSpec
from imdbtune.training.trainer import train_trial
from tests.contract.test_trainer import (
    HELD_OUT,
    saved_values,
    small_corpus,
    small_spec,
    without_seconds,
)

# All that an epoch depends on besides the weights.
RANDOM = {"dropout": 0.3, "spatial_dropout": 0.2, "word_dropout": 0.3, "crop": 12}
SCHEDULED = {"ema": 0.8, "schedule": "cosine", "warmup": 0.2, "weight_decay": 0.01}
KINDS: dict[str, dict[str, Any]] = {
    "compiled": {"compile": "on", "optimizer": "sgd", **RANDOM, **SCHEDULED},
    "continues another trial": {"initial_epoch": 1, "epochs": 5, **RANDOM, **SCHEDULED},
    "padded, without validation": {
        **{"batching": "padded", "hold_out": False, "dropout": 0.3, "optimizer": "rmsprop"}
    },
    "two padded folds": {
        **{"folds": 2, "fold_seed": 7, "batching": "padded", "dropout": 0.3, "optimizer": "sgd"}
    },
}


class Killed(BaseException):
    """The end of an attempt."""


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("hard") / "corpus", separable=False)


def kept_spec(corpus: Corpus, folder: Path, **changed: Any) -> TrialSpec:
    changed = {"objective": "val_loss", **changed}
    spec = small_spec(corpus, folder, **{"epochs": 3, "batch_size": 32, **changed})
    return replace(spec, checkpoint_after_s=0.0)


def killed_after(position: tuple[int, int], heard: list[Epoch]) -> Callable[[int, Epoch], None]:
    def on_epoch(execution: int, epoch: Epoch) -> None:
        heard.append(epoch)
        if (execution, int(epoch["epoch"])) == position:
            raise Killed

    return on_epoch


def weights(result: TrialResult) -> list[npt.NDArray[Any]]:
    saved: list[npt.NDArray[Any]] = keras.models.load_model(result.model).get_weights()
    return saved


def assert_same(found: TrialResult, expected: TrialResult) -> None:
    assert without_seconds(found.history) == without_seconds(expected.history)
    assert found.scores == expected.scores
    assert found.best_epoch == expected.best_epoch
    assert found.pruned_after == expected.pruned_after
    assert without_seconds(found.folds) == without_seconds(expected.folds)
    assert found.parameter_count == expected.parameter_count
    np.testing.assert_array_equal(found.right, expected.right)
    for one, other in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@dataclass(frozen=True)
class Trained:
    """An undisturbed training, and what a kill in its midst would have left.

    Args:
        reported: each epoch with the number of its execution.
        before: those of them before the kill.
        left: the folder as it was then.
    """

    spec: TrialSpec
    result: TrialResult
    reported: list[tuple[int, Epoch]]
    before: list[tuple[int, Epoch]]
    left: Path


def train_whole(spec: TrialSpec, epoch_of_kill: int = 2) -> Trained:
    """Train to the end; the kill would come in the last execution, as that epoch is reported."""
    kill = (spec.settings.trainings - 1, epoch_of_kill)
    reported: list[tuple[int, Epoch]] = []
    before: list[tuple[int, Epoch]] = []
    left = spec.folder.with_name("left")

    def on_epoch(execution: int, epoch: Epoch) -> None:
        reported.append((execution, epoch))
        if (execution, epoch["epoch"]) == kill:
            before.extend(reported)
            shutil.copytree(spec.folder, left)

    return Trained(spec, train_trial(spec, on_epoch), reported, before, left)


@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_training_ends_as_an_undisturbed_one(
    kind: str, hard: Corpus, tmp_path: Path
) -> None:
    whole = kept_spec(hard, tmp_path / "whole", **KINDS[kind])
    if kind == "continues another trial":
        first = replace(whole, folder=tmp_path / "first", keep_state=True)
        first = replace(first, settings=replace(whole.settings, initial_epoch=0, epochs=1))
        whole = replace(whole, state=train_trial(first).state)
    assert_continues(train_whole(whole))


def assert_continues(whole: Trained) -> TrialResult:
    """Go on with what the kill would have left, and return how that ends."""
    after: list[tuple[int, Epoch]] = []
    spec = replace(whole.spec, folder=whole.left)
    found = train_trial(spec, lambda execution, epoch: after.append((execution, epoch)))
    assert_same(found, whole.result)
    # The earlier epochs are reported again, not trained again: they took as long to the digit.
    assert after[: len(whole.before)] == whole.before
    assert len(after) > len(whole.before) > 0
    return found


@pytest.fixture(scope="module")
def twice(hard: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training of two executions."""
    folder = tmp_path_factory.mktemp("twice") / "whole"
    return train_whole(kept_spec(hard, folder, executions=2, seed=5, **RANDOM))


@pytest.mark.xdist_group("two executions")
def test_two_executions_continue_in_the_second(twice: Trained) -> None:
    assert_continues(twice)


@pytest.mark.xdist_group("two executions")
def test_the_score_is_the_mean_over_executions(twice: Trained, tmp_path: Path) -> None:
    """Another seed is another training, and the same one the same; short epochs are not kept."""
    once = replace(twice.spec.settings, executions=1, seed=6)
    spec = replace(twice.spec, folder=tmp_path, settings=once, checkpoint_after_s=1000.0)
    second = train_trial(spec)
    assert not checkpoint_path(spec).exists()
    both = twice.result
    executions = [
        [epoch for number, epoch in twice.reported if number == execution] for execution in (0, 1)
    ]
    assert [execution for execution, _ in twice.reported] == [0, 0, 0, 1, 1, 1]
    losses = [[epoch["val_loss"] for epoch in epochs] for epochs in executions]
    assert both.scores == tuple(min(each) for each in losses)
    assert both.score == pytest.approx(np.mean(both.scores))
    assert without_seconds(tuple(executions[1])) == without_seconds(second.history)
    assert both.history == tuple(min(executions, key=lambda e: min(x["val_loss"] for x in e)))
    assert losses[0][0] != losses[1][0]


def test_a_training_can_be_continued_again(hard: Corpus, tmp_path: Path) -> None:
    """With the patience that is left, and the best weights so far."""
    patient = {"rnn": "gru", "epochs": 9, "patience": 2, "learning_rate": 0.1}
    whole = train_whole(kept_spec(hard, tmp_path / "whole", **patient, **RANDOM), 1)
    again = replace(whole.spec, folder=whole.left)
    with pytest.raises(Killed):
        train_trial(again, killed_after((0, 2), []))
    found = train_trial(again)
    assert_same(found, whole.result)
    assert found.best_epoch <= 2
    assert len(found.history) == found.best_epoch + 2
    assert found.seconds > sum(epoch["seconds"] for epoch in found.history)


def test_a_trial_that_is_pruned_by_the_earlier_attempts_last_epoch_ends_with_it(
    hard: Corpus, tmp_path: Path
) -> None:
    """The worker died before it heard of the decision."""
    spec = kept_spec(hard, tmp_path, executions=2, **SCHEDULED)
    heard: list[Epoch] = []
    with pytest.raises(Killed):
        train_trial(spec, killed_after((0, 2), heard))
    found = train_trial(spec, lambda execution, epoch: epoch["epoch"] == 2)
    assert found.pruned_after == 2
    assert list(found.history) == heard
    assert found.right.shape == (2, HELD_OUT)
    assert found.scores == (min(epoch["val_loss"] for epoch in heard),)
    loss, accuracy = saved_values(found, hard)
    assert loss == pytest.approx(found.score, abs=1e-6)
    assert accuracy == pytest.approx(found.best["val_accuracy"], abs=1e-6)
    assert found.right[found.best_epoch - 1].mean() == pytest.approx(accuracy)


def test_a_damaged_checkpoint_is_not_used(
    hard: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The training begins anew."""
    spec = kept_spec(hard, tmp_path, epochs=2)
    heard: list[Epoch] = []
    with pytest.raises(Killed):
        train_trial(spec, killed_after((0, 1), heard))
    path = checkpoint_path(spec)
    path.write_bytes(path.read_bytes()[:-100])
    found = train_trial(spec)
    assert without_seconds(found.history[:1]) == without_seconds(tuple(heard))
    assert found.history[0]["seconds"] != heard[0]["seconds"]
    assert [epoch["epoch"] for epoch in found.history] == [1, 2]
    (record,) = (each for each in caplog.records if each.name.startswith("imdbtune"))
    assert f"{path} is not used: " in record.getMessage()
