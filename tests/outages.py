"""Searches whose tracking server goes away in the middle, and whether anything is missing after."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from imdbtune import api
from imdbtune.search.events import Event, Notice, TrialEnded
from imdbtune.tracking import background_delivery, mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import TrialSpec
from tests.support import Stub, make_config

MANY = [4, 5, 6, 7, 8, 9]
FIRST, DURING = 2, 4  # trials that end before the outage, and at least so many before its end


class Store(Protocol):
    """A tracking server that can go away."""

    @property
    def uri(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


def ask_again_soon(patch: pytest.MonkeyPatch) -> None:
    """A store that is away is asked again at once."""
    patch.setattr(background_delivery, "POLL_S", 0.05)
    patch.setattr(background_delivery, "RETRY_EVERY_S", 0.1)


def check_whole(uri: str, name: str, units: Sequence[int], models: bool = True) -> None:
    """All that a search and its trials ought to have, once."""
    client = connect(uri)
    search = reader.find_search(client, name)
    trials = reader.read_trials(client, search)
    assert (search.status, search.metrics["trials_finished"]) == ("FINISHED", len(units))
    assert Counter(t.params.units for t in trials) == Counter(units)
    assert {t.status for t in trials} == {"FINISHED"}
    for trial in trials:
        for curve in mlflow_names.CURVES:
            history = client.get_metric_history(trial.run_id, curve)
            assert [metric.step for metric in history] == [1, 2, 3]
        assert len(client.get_metric_history(trial.run_id, "best_val_accuracy")) == 1
        files = {artifact.path for artifact in client.list_artifacts(trial.run_id)}
        assert files == {"history.csv", "history.json", "record.json", "accuracy.png", "loss.png"}
        run = client.get_run(trial.run_id)
        assert len(run.inputs.dataset_inputs) == 1
        if not models:
            continue
        (output,) = run.outputs.model_outputs
        assert client.get_logged_model(output.model_id).status == "READY"
    logged = client.search_logged_models([search.experiment_id])
    assert len({m.source_run_id for m in logged}) == len(logged)
    table = Path(client.download_artifacts(search.run_id, "leaderboard.json")).read_text("utf-8")
    assert len(json.loads(table)["data"]) == len(units)
    assert f"{len(units)} finished" in search.tags[mlflow_names.NOTE]
    assert {a.path for a in client.list_artifacts(search.run_id)} >= {"all_val_accuracy.png"}


def wait_for_turn(marks: Path, spec: TrialSpec) -> None:
    """The first trials are trained at once, the next in the outage, the last when it is over."""
    units = spec.params.units
    mark = "down" if units >= MANY[FIRST] else ""
    mark = "up" if units >= MANY[DURING] else mark
    while mark and not (marks / mark).exists():
        time.sleep(0.02)


@dataclass
class OnWorkers:
    """A search of two workers; its server goes away after the first trials.

    Args:
        away_s: how long it stays away once that has been told.
    """

    server: Store
    marks: Path
    comes_back: bool
    away_s: float = 0.0
    told: list[str] = field(default_factory=list)
    ended: int = 0

    def listen(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.told.append(event.text)
        if not isinstance(event, TrialEnded):
            return
        self.ended += 1
        if self.ended == FIRST:
            self.server.kill()
            (self.marks / "down").touch()
        if self.ended == DURING:
            while not self.told:
                time.sleep(0.05)
            time.sleep(self.away_s)
            if self.comes_back:
                self.server.start()
            (self.marks / "up").touch()

    def run(self, folder: Path, name: str) -> Any:
        tracked = {"uri": self.server.uri}
        config = make_config(folder, name=name, space={"units": MANY}, tracking=tracked)
        trainer = Stub(functools.partial(wait_for_turn, self.marks))
        where = {"cache": folder / "cache", "listener": self.listen, "trainer": trainer}
        return api.search(config, api.Context(workers=2, **where))
