"""What users do with MLflow itself: by hand while a search runs, and queries of its models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest

from imdbtune import api
from imdbtune.search.events import Event, Notice, TrialEnded, TrialStarted
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Trial
from tests.pages import blocks
from tests.support import Stub, draw_nothing, isolate, make_config, prepare, write_tiny_model


@dataclass
class Hands:
    """Somebody at MLflow's pages, who waits for what the page is to show and then acts."""

    client: Any
    heard: list[str] = field(default_factory=list)

    def trials(self) -> dict[str, Trial]:
        found = reader.read_trials(self.client, reader.find_search(self.client))
        return {trial.trial_id: trial for trial in found}

    def wait_for(self, is_there: Callable[[dict[str, Trial]], bool]) -> dict[str, Trial]:
        while not is_there(seen := self.trials()):
            time.sleep(0.02)
        return seen

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.heard.append(event.text)
        elif isinstance(event, TrialEnded) and event.trial_id == "0001":
            seen = self.wait_for(lambda t: len(t) >= 2 and t["0001"].status == "FINISHED")
            self.client.delete_run(seen["0000"].run_id)
            self.client.set_tag(seen["0001"].run_id, "favourite", "yes")
            self.client.create_registered_model("films")
            source, run_id = f"models:/{seen['0001'].model_id}", seen["0001"].run_id
            self.client.create_model_version("films", source, run_id=run_id)
        elif isinstance(event, TrialEnded) and event.trial_id == "0002":
            (gone,) = self.deleted()
            self.client.restore_run(gone)
        elif isinstance(event, TrialStarted) and event.trial_id == "0003":
            seen = self.wait_for(lambda t: "0003" in t)
            self.client.delete_run(seen["0003"].run_id)

    def deleted(self) -> list[str]:
        from mlflow.entities import ViewType

        found = self.client.search_runs(["1"], run_view_type=ViewType.DELETED_ONLY)
        return [run.info.run_id for run in found]


def test_a_search_copes_with_hands_and_its_models_are_found_by_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path)
    draw_nothing(monkeypatch)
    isolate(monkeypatch, tmp_path)
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)  # MLflow reads the sources of versions there
    hands = Hands(connect(store))
    space = {"rnn": "lstm", "units": [4, 5, 6, 7]}
    config = make_config(tmp_path, space=space, tracking={"keep_models": "all"})
    context = api.Context(workers=0, trainer=Stub(write_tiny_model), listener=hands)
    found = api.search(config, context)
    assert found.status == "FINISHED"
    seen = hands.trials()
    assert {name: trial.status for name, trial in seen.items()} == {
        name: "FINISHED" for name in ("0000", "0001", "0002")
    }
    assert seen["0001"].tags["favourite"] == "yes"
    assert api.best()[1].trial_id == "0002"

    # The trial that lost its run while it trained: what is known of it waits in the outbox.
    (gone,) = hands.deleted()
    (notice,) = [text for text in hands.heard if "was deleted in MLflow" in text]
    assert f"mlflow runs restore --run-id {gone}, then imdbtune sync" in notice
    hands.client.restore_run(gone)
    api.sync()
    assert (hands.trials()["0003"].status, api.best()[1].run_id) == ("FINISHED", gone)

    # The version that was registered by hand stays, and its model says its epoch.
    (version,) = hands.client.search_model_versions("name='films'")
    run = hands.client.get_run(version.run_id)
    assert [(each.model_id, each.step) for each in run.outputs.model_outputs] == [
        (seen["0001"].model_id, int(seen["0001"].metrics["best_epoch"]))
    ]

    capsys.readouterr()
    (example,) = [b for b in blocks("python", ["docs/mlflow.md"]) if "search_logged_models" in b]
    exec(compile(example, "docs/mlflow.md", "exec"), {})
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1:] for row in rows] == [["7", "0.6270"], ["6", "0.6260"], ["5", "0.6250"]]
