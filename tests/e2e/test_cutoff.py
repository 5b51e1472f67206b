"""Processes that are killed and never go on: what they left RUNNING is closed by the next one."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api, results, tracking
from imdbtune.config import SearchConfig
from imdbtune.errors import Busy, SearchAborted, UserError
from imdbtune.results import Trial
from imdbtune.resuming import CUT_OFF
from imdbtune.store import connect
from tests.killing import (
    AtEpoch,
    AtWrite,
    Death,
    draw_nothing,
    outcome_of,
    read_outcome,
    run_driver,
    run_forked,
)
from tests.support import Stub, isolate, kill_self, make_config, prepare, run_search, stub_trainer

ONE = {"rnn": "lstm", "units": 4}
WRITES = range(1, 15, 2)


def one_config(folder: Path) -> SearchConfig:
    return make_config(folder, name="one", space=ONE)


def train_one(folder: Path, death: Death | None = None) -> None:
    """A training, which dies of ``death``, or else fails: the stub leaves no model."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        draw_nothing(patch)
        if death:
            death.arm()
        with pytest.raises(SearchAborted, match=r"model\.keras"):
            api.train(one_config(folder), folder=folder / "runs", trainer=stub_trainer)


def reproduce_and_die(folder: Path, run_id: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        dying = Stub(lambda spec: kill_self())
        uri = one_config(folder).tracking.uri
        api.reproduce(run_id, uri=uri, folder=folder / "runs", trainer=dying)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    draw_nothing(monkeypatch)
    return isolate(monkeypatch, tmp_path)


def runs_of(folder: Path) -> list[Any]:
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_experiments()
    return list(client.search_runs([e.experiment_id for e in found]))


def sync(folder: Path, search: str | None = None, **arguments: Any) -> list[api.Synced]:
    return api.sync(search, folder=folder / "runs", **arguments)


def test_a_killed_training_is_closed_by_the_next_one(folder: Path) -> None:
    """Wherever it died, nothing is left of it but a run that has ended."""
    killed = 0
    for turn, number in enumerate(WRITES):
        how = "half" if number % 3 == 0 else "after"
        killed += run_forked(train_one, folder, AtWrite(number, how)) == -9
        if turn % 2:
            train_one(folder)
        else:
            with suppress(UserError):  # it died before there was a run
                sync(folder)
        assert not (folder / "runs").exists()
        statuses = Counter(run.info.status for run in runs_of(folder))
        assert set(statuses) <= {"FAILED", "KILLED"}
    assert killed >= 5
    ended = [run for run in runs_of(folder) if run.info.status == "KILLED"]
    assert len(ended) >= 3
    assert {run.data.tags[tracking.REASON] for run in ended} == {CUT_OFF}


def test_a_killed_training_is_closed_by_the_next_search(folder: Path) -> None:
    assert run_forked(train_one, folder, AtWrite(9, "after")) == -9
    (left,) = runs_of(folder)
    assert left.info.status == "RUNNING"
    told: list[str] = []

    def listen(kind: str, facts: dict[str, Any]) -> None:
        told.extend([facts["text"]] if kind == "notice" else [])

    _, search = run_search(one_config(folder), folder, listener=listen)
    statuses = {run.info.run_id: run.info.status for run in runs_of(folder)}
    assert statuses.pop(left.info.run_id) == "KILLED"
    assert set(statuses.values()) == {"FINISHED"}
    assert told == [f"training one (run {left.info.run_id}) was cut off: closed as KILLED."]
    assert [path.name for path in (folder / "runs").iterdir()] == [search.run_id]


def test_a_killed_reproduction_is_closed_by_sync(folder: Path) -> None:
    client, search = run_search(one_config(folder), folder)
    (trial,) = results.read_trials(client, search)
    assert run_forked(reproduce_and_die, folder, trial.run_id) == -9
    assert [run.info.status for run in runs_of(folder)].count("RUNNING") == 1
    again, before = sync(folder)
    assert (again.name, again.kind) == ("reproduce-lstm-d1-u4-L500", "training")
    assert (before.kind, before.calls) == ("search", 0)
    assert Counter(run.info.status for run in runs_of(folder)) == {"FINISHED": 2, "KILLED": 1}
    assert [one.name for one in sync(folder)] == ["one"]


def reasons(trials: list[Trial]) -> set[str]:
    return {trial.reason for trial in trials if trial.status == "KILLED"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_search_is_closed_by_sync_and_can_go_on(workers: int, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    prepare(folder)
    assert run_driver(folder, "random", workers, AtEpoch(2)) == -9
    assert "RUNNING" in read_outcome(folder).statuses
    (closed,) = sync(folder)
    assert closed.calls > 0
    left = read_outcome(folder)
    assert left.search.status == "KILLED"
    assert left.search.tags[tracking.REASON] == CUT_OFF
    assert "RUNNING" not in left.statuses
    assert reasons(left.trials) == {CUT_OFF}
    assert "running" not in left.search.tags[tracking.NOTE]
    assert [one.calls for one in sync(folder)] == [0]
    # A second session, which dies as well.
    assert run_driver(folder, "random", workers, AtEpoch(2)) == -9
    assert [one.calls > 0 for one in sync(folder)] == [True]
    assert "RUNNING" not in read_outcome(folder).statuses
    assert run_driver(folder, "random", 0, None) == 0
    killed, whole = read_outcome(folder), outcome_of(tmp_path / "whole", "random", 0, [])
    assert killed.finished() == whole.finished()
    assert killed.told() == whole.told()
    assert killed.search.status == "FINISHED"
    assert tracking.REASON not in killed.search.tags


def sync_in_another_process(folder: Path, search: str | None, file: Path) -> None:
    told: list[str] = []

    def listen(kind: str, facts: dict[str, Any]) -> None:
        told.append(facts["text"])

    try:
        done = sync(folder, search, listener=listen)
        file.write_text(f"{[one.name for one in done]} {told}")
    except Busy as error:
        file.write_text(f"refused: {error}")


def test_sync_leaves_what_is_running_alone(folder: Path) -> None:
    said: list[str] = []

    def ask(kind: str, facts: dict[str, Any]) -> None:
        if kind == "ended":
            for search in (None, "one"):
                run_forked(sync_in_another_process, folder, search, folder / "said")
                said.append((folder / "said").read_text())

    client, search = run_search(one_config(folder), folder, listener=ask)
    everything, named = said
    assert everything.startswith("[] ['another process is working on this search (")
    assert named.startswith("refused: another process is working on this search (")
    assert search.status == "FINISHED"
    assert [trial.status for trial in results.read_trials(client, search)] == ["FINISHED"]
