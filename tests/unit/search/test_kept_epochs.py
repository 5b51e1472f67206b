"""Searches whose trials are interrupted and continue after the last epoch that was kept."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.progress import Progress
from imdbtune.cluster.trial_job import trial_folder
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import TrialFailed
from imdbtune.search.events import Event
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.training.saved_state import checkpoint_path
from imdbtune.training.spec import CHECKPOINT_AFTER_S, TrialSpec
from tests.driven import config_of, drive
from tests.support import KeepingStub, Stub, draw_nothing, isolate, make_config, prepare

EPOCHS = 4


class Ordeal:
    """Notes the epochs that are trained; one of them fails or is interrupted, once."""

    def __init__(self, error: BaseException, at: tuple[int, int] = (8, 3)) -> None:
        self.error, self.at = error, at
        self.trained: Counter[tuple[int, int]] = Counter()
        self.specs: list[TrialSpec] = []

    def __call__(self, spec: TrialSpec, epoch: int) -> None:
        self.specs.append(spec)
        self.trained[spec.params.units, epoch] += 1
        if (spec.params.units, epoch) == self.at and self.trained[self.at] == 1:
            raise self.error


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchConfig:
    isolate(monkeypatch, tmp_path)
    draw_nothing(monkeypatch)
    prepare(tmp_path)
    space = {"rnn": "gru", "units": [4, 8, 16]}
    return make_config(tmp_path, space=space, training={"epochs": EPOCHS})


def context(folder: Path, before: Any, told: list[Event]) -> api.Context:
    return api.Context(
        workers=0, cache=folder / "cache", trainer=KeepingStub(before), listener=told.append
    )


def kept_files(folder: Path) -> list[Path]:
    return list((folder / ".imdbtune").glob("*/trials/*/checkpoint.npz"))


def test_a_resumed_search_continues_a_trial_after_its_last_kept_epoch(
    config: SearchConfig, tmp_path: Path
) -> None:
    ordeal = Ordeal(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        api.search(config, context(tmp_path, ordeal, []))
    assert len(kept_files(tmp_path)) == 1
    told: list[Event] = []
    search = api.resume(context=context(tmp_path, ordeal, told))
    numbers = [(units, epoch) for units in (4, 8, 16) for epoch in range(1, EPOCHS + 1)]
    assert ordeal.trained == {**dict.fromkeys(numbers, 1), (8, 3): 2}
    assert kept_files(tmp_path) == []

    client = connect(config.tracking.uri)
    trials = reader.read_trials(client, search)
    states = Counter(trial.status for trial in trials)
    assert states == {"FINISHED": 3, "KILLED": 1}
    continued = [t for t in trials if mlflow_names.CONTINUED in t.tags]
    assert [(t.params.units, t.tags[mlflow_names.CONTINUED]) for t in continued] == [(8, "2")]
    curve = client.get_metric_history(continued[0].run_id, "val_accuracy")
    assert [metric.step for metric in curve] == [1, 2, 3, 4]

    screen = io.StringIO()
    show = Progress(screen)
    for event in told:
        show(event)
    assert "[2/3] gru-d1-u8-L500 continues after epoch 2/4: accuracy" in screen.getvalue()
    assert screen.getvalue().count("continues after") == 1


def test_a_checkpoint_outlives_a_lost_worker_but_not_a_failure(tmp_path: Path) -> None:
    """The next attempt after a failure has another seed."""
    found: list[tuple[int, bool]] = []

    def look_and_fail(spec: TrialSpec) -> None:
        found.append((spec.settings.seed, checkpoint_path(spec).exists()))
        checkpoint_path(spec).touch()
        if spec.settings.seed == 0:
            raise TrialFailed("loss became nan in epoch 3.")

    folder = trial_folder(tmp_path, "0000")
    folder.mkdir(parents=True)
    (folder / "checkpoint.npz").touch()
    config = config_of("grid", {"rnn": ["gru"], "units": [8]}, retries=1)
    driven = drive(config, tmp_path, trainer=Stub(look_and_fail), loses=["0000"])
    assert found == [(0, True), (1, False)]
    assert list(folder.iterdir()) == []
    assert {spec.checkpoint_after_s for spec in driven.executor.specs} == {CHECKPOINT_AFTER_S}


def test_a_result_that_only_mlflow_has_leaves_no_checkpoint(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver died between the end of the trial and the journal."""

    def die(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    nothing = Ordeal(KeyboardInterrupt(), at=(0, 0))
    with monkeypatch.context() as patch:
        patch.setattr("imdbtune.search.driver.Driver._handle_outcome", die)
        with pytest.raises(KeyboardInterrupt):
            api.search(config, context(tmp_path, nothing, []))
    assert len(kept_files(tmp_path)) == 1
    api.resume(context=context(tmp_path, nothing, []))
    assert kept_files(tmp_path) == []
