"""Trainings that end after an epoch and are continued: to the last digit as undisturbed ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from tests.contract.test_trainer import small_corpus, small_spec, without_seconds

# All that an epoch depends on besides the weights.
RANDOM = {"dropout": 0.3, "spatial_dropout": 0.2, "word_dropout": 0.3, "crop": 12}
SCHEDULED = {"ema": 0.8, "schedule": "cosine", "warmup": 0.2, "weight_decay": 0.01}
KINDS: dict[str, dict[str, Any]] = {
    "compiled": {"compile": "on", "pooling": "max_mean", **RANDOM, **SCHEDULED},
    "not compiled": {"compile": "off", "pooling": "max_mean", **RANDOM, **SCHEDULED},
    "patient": {"rnn": "gru", "epochs": 9, "patience": 2, "learning_rate": 0.1, **RANDOM},
    "padded": {"batching": "padded", "dropout": 0.3, "optimizer": "rmsprop"},
    "without validation": {"hold_out": False, **RANDOM, **SCHEDULED},
    "two executions": {"executions": 2, **RANDOM},
    "three folds": {"folds": 3, "fold_seed": 7, **RANDOM},
    "two padded folds": {"folds": 2, "batching": "padded", "dropout": 0.3},
    "continues another trial": {"initial_epoch": 1, "epochs": 5, **RANDOM},
}


class Killed(BaseException):
    """The end of an attempt."""


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("hard") / "corpus", separable=False)


def kept_spec(corpus: Corpus, folder: Path, **changed: Any) -> TrialSpec:
    spec = small_spec(corpus, folder, **{"epochs": 4, "objective": "val_loss", **changed})
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_training_ends_as_an_undisturbed_one(
    kind: str, hard: Corpus, tmp_path: Path
) -> None:
    whole = kept_spec(hard, tmp_path / "whole", **KINDS[kind])
    if kind == "continues another trial":
        first = replace(whole, folder=tmp_path / "first", keep_state=True)
        first = replace(first, settings=replace(whole.settings, initial_epoch=0, epochs=1))
        whole = replace(whole, state=train_trial(first).state)
    expected = train_trial(whole)
    spec = replace(whole, folder=tmp_path / "continued")
    before: list[Epoch] = []
    after: list[Epoch] = []
    with pytest.raises(Killed):
        train_trial(spec, killed_after((whole.settings.trainings - 1, 2), before))
    found = train_trial(spec, lambda execution, epoch: after.append(epoch))
    assert_same(found, expected)
    # The earlier epochs are reported again, not trained again: they took as long to the digit.
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_a_training_can_be_continued_again(hard: Corpus, tmp_path: Path) -> None:
    spec = kept_spec(hard, tmp_path / "whole", patience=3, **RANDOM)
    expected = train_trial(spec)
    again = replace(spec, folder=tmp_path / "again")
    for epoch in (1, 2, 3):
        with pytest.raises(Killed):
            train_trial(again, killed_after((0, epoch), []))
    found = train_trial(again)
    assert_same(found, expected)
    assert found.seconds > sum(epoch["seconds"] for epoch in found.history)


def test_a_trial_that_is_pruned_by_the_earlier_attempts_last_epoch_ends_with_it(
    hard: Corpus, tmp_path: Path
) -> None:
    """The worker died before it heard of the decision."""
    spec = kept_spec(hard, tmp_path / "whole", executions=2, **SCHEDULED)
    expected = train_trial(spec, lambda execution, epoch: epoch["epoch"] == 2)
    again = replace(spec, folder=tmp_path / "again")
    with pytest.raises(Killed):
        train_trial(again, killed_after((0, 2), []))
    found = train_trial(again, lambda execution, epoch: epoch["epoch"] == 2)
    assert expected.pruned_after == 2
    assert_same(found, expected)


def test_a_damaged_checkpoint_is_not_used(
    hard: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = kept_spec(hard, tmp_path / "whole", epochs=2)
    expected = train_trial(spec)
    again = replace(spec, folder=tmp_path / "again")
    with pytest.raises(Killed):
        train_trial(again, killed_after((0, 1), []))
    path = checkpoint_path(again)
    path.write_bytes(path.read_bytes()[:-100])
    assert_same(train_trial(again), expected)
    (record,) = caplog.records
    assert f"{path} is not used: " in record.getMessage()


def test_short_epochs_are_not_kept(hard: Corpus, tmp_path: Path) -> None:
    spec = replace(kept_spec(hard, tmp_path, epochs=2), checkpoint_after_s=1000.0)
    train_trial(spec)
    assert not checkpoint_path(spec).exists()
