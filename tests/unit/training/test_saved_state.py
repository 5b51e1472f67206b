"""Checkpoints as files: what they keep, when they are used, and what becomes of unusable ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import NewCorpus, make_split, write_corpus
from imdbtune.training import saved_state
from imdbtune.training.saved_state import (
    Checkpoint,
    checkpoint_path,
    delete_checkpoint,
    find_checkpoint,
    save_checkpoint,
)
from imdbtune.training.spec import Epoch, Recorded, TrainingSettings, TrialSpec
from tests.support import no_room_beyond

EPOCHS: list[Epoch] = [{"epoch": float(n), "loss": 0.1 + n / 3, "seconds": 2.5} for n in (1, 2)]
RECORDED = [Recorded(np.eye(2, dtype=bool), np.ones(2)), Recorded(np.ones((1, 2), bool))]
KEPT = Checkpoint(
    [EPOCHS, EPOCHS[:1]], RECORDED, 7.5, [np.full(2, 0.1, np.float32)], [np.arange(3)]
)


@pytest.fixture
def spec(tmp_path: Path) -> TrialSpec:
    half = make_split([[1, 2], [1, 3]], [0, 1])
    corpus = write_corpus(tmp_path / "corpus", NewCorpus("two", "Two reviews", half, half, {}))
    return TrialSpec(TrialParams(), corpus.folder, tmp_path / "trial")


def save(spec: TrialSpec, kept: Checkpoint) -> None:
    """Save it for a model of two variables."""
    optimizer = SimpleNamespace(built=True, variables=[np.ones((100, 100))])
    save_checkpoint(spec, SimpleNamespace(variables=[np.ones(4)], optimizer=optimizer), kept)  # type: ignore[arg-type]


def test_a_checkpoint_is_read_as_it_was_saved(spec: TrialSpec) -> None:
    kept = replace(KEPT, best_model=[np.arange(3), np.ones((2, 2))])
    save(spec, kept)
    found = find_checkpoint(spec)
    assert found
    assert (found.histories, found.seconds) == (kept.histories, kept.seconds)
    assert (found.execution, found.epoch) == (1, 1)
    assert found.ends_with(1, EPOCHS[0])
    assert not found.ends_with(0, EPOCHS[0])
    for name in ("best_weights", "best_model"):
        for one, other in zip(getattr(found, name), getattr(kept, name), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(found.recorded, kept.recorded, strict=True):
        np.testing.assert_array_equal(one.right, other.right)
        np.testing.assert_array_equal(one.predicted, other.predicted)
    assert [path.name for path in spec.folder.iterdir()] == ["checkpoint.npz"]
    delete_checkpoint(spec)
    delete_checkpoint(spec)
    assert find_checkpoint(spec) is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10_000])


def flip(path: Path) -> None:
    """Change a byte in the middle of an array, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pickle_objects(path: Path) -> None:
    np.savez(path, about=np.array([{"trial": "x"}], dtype=object))


UNUSABLE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "of another kind": lambda path: path.write_text("checkpoint"),
    "cut": cut,
    "changed": flip,
    "with pickled objects": pickle_objects,
    "without description": lambda path: np.savez(path, other=1),
    "with a description that is no JSON": lambda path: np.savez(path, about="{"),
    "with a description of another form": lambda path: np.savez(path, about="[]"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_file_is_reported_in_a_line_and_deleted(
    kind: str, spec: TrialSpec, caplog: pytest.LogCaptureFixture
) -> None:
    save(spec, KEPT)
    path = checkpoint_path(spec)
    UNUSABLE[kind](path)
    assert find_checkpoint(spec) is None
    assert not path.exists()
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{path} is not used: ")
    assert len(message.splitlines()) == 1
    assert find_checkpoint(spec) is None
    assert len(caplog.records) == 1


OTHERS: dict[str, Callable[[TrialSpec], TrialSpec]] = {
    "hyperparameters": lambda s: replace(s, params=replace(s.params, units=99)),
    "seed": lambda s: replace(s, settings=TrainingSettings(seed=1)),
    "epochs": lambda s: replace(s, settings=TrainingSettings(epochs=9)),
}


@pytest.mark.parametrize("kind", [*OTHERS, "version", "format", "reviews"])
def test_a_checkpoint_of_another_trial_is_not_used(
    kind: str,
    spec: TrialSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save(spec, KEPT)
    assert find_checkpoint(replace(spec, checkpoint_after_s=1.0)) is not None
    other = OTHERS.get(kind, lambda same: same)(spec)
    if kind == "version":
        monkeypatch.setattr("importlib.metadata.version", lambda package: "0.0")
    elif kind == "format":
        monkeypatch.setattr(saved_state, "FORMAT", 0)
    elif kind == "reviews":
        half = make_split([[1, 2], [1, 4]], [0, 1])
        new = NewCorpus("two", "Two others", half, half, {})
        other = replace(spec, corpus=write_corpus(tmp_path / "other", new).folder)
    assert find_checkpoint(other) is None
    assert "another configuration or version has written it" in caplog.text


def test_without_room_the_last_checkpoint_stays(
    spec: TrialSpec, caplog: pytest.LogCaptureFixture
) -> None:
    save(spec, KEPT)
    with no_room_beyond(20_000), caplog.at_level(logging.WARNING):
        save(spec, replace(KEPT, histories=[EPOCHS]))
    (record,) = caplog.records
    assert record.getMessage() == "epoch 2 is not kept: [Errno 27] File too large"
    found = find_checkpoint(spec)
    assert found
    assert found.histories == KEPT.histories
    for one, other in zip(found.recorded, KEPT.recorded, strict=True):
        np.testing.assert_array_equal(one.right, other.right)
        np.testing.assert_array_equal(one.predicted, other.predicted)
    assert [path.name for path in spec.folder.iterdir()] == ["checkpoint.npz"]
