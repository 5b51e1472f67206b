"""Processes that are killed and never go on: what they left RUNNING is closed by the next one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import Busy, Deleted, SearchAborted, UserError
from imdbtune.search.events import Event, TrialEnded
from imdbtune.search.resume import CRASHED
from imdbtune.search.workspace import Workspace, list_unnamed_workspaces, workspace_of
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.training.spec import TrialSpec
from tests.forked import run_forked
from tests.killing import AtEpoch, AtWrite, Death, Outcome, read_outcome, run_driver
from tests.support import (
    Stub,
    draw_nothing,
    isolate,
    kill_self,
    make_config,
    noting,
    prepare,
    run_search,
    stub_trainer,
)

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
            api.train(one_config(folder), api.Context(folder=folder / "runs", trainer=stub_trainer))


def reproduce_and_die(folder: Path, run_id: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        dying = Stub(lambda spec: kill_self())
        uri = one_config(folder).tracking.uri
        api.reproduce(run_id, api.Context(uri=uri, folder=folder / "runs", trainer=dying))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare(tmp_path)
    draw_nothing(monkeypatch)
    return isolate(monkeypatch, tmp_path)


def runs_of(folder: Path) -> list[Any]:
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_experiments()
    return list(client.search_runs([e.experiment_id for e in found]))


def sync(folder: Path, search: str | None = None, **arguments: Any) -> list[api.SyncResult]:
    return api.sync(search, api.Context(folder=folder / "runs", **arguments))


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
    assert {run.data.tags[mlflow_names.REASON] for run in ended} == {CRASHED}


def test_a_killed_training_is_closed_by_the_next_search(folder: Path) -> None:
    assert run_forked(train_one, folder, AtWrite(9, "after")) == -9
    (left,) = runs_of(folder)
    assert left.info.status == "RUNNING"
    told: list[str] = []

    listen = noting(told)

    _, search = run_search(one_config(folder), folder, listener=listen)
    statuses = {run.info.run_id: run.info.status for run in runs_of(folder)}
    assert statuses.pop(left.info.run_id) == "KILLED"
    assert set(statuses.values()) == {"FINISHED"}
    assert told == [f"training one (run {left.info.run_id}) had crashed: closed as KILLED."]
    assert [path.name for path in (folder / "runs").iterdir()] == [search.run_id]


def test_a_killed_reproduction_is_closed_by_sync(folder: Path) -> None:
    client, search = run_search(one_config(folder), folder)
    (trial,) = reader.read_trials(client, search)
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
def test_a_killed_search_is_closed_by_sync_and_can_go_on(
    workers: int, tmp_path: Path, undisturbed: Callable[[str], Outcome]
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    prepare(folder)
    assert run_driver(folder, "random", workers, AtEpoch(2)) == -9
    assert "RUNNING" in read_outcome(folder).statuses
    (closed,) = sync(folder)
    assert closed.calls > 0
    left = read_outcome(folder)
    assert left.search.status == "KILLED"
    assert left.search.tags[mlflow_names.REASON] == CRASHED
    assert "RUNNING" not in left.statuses
    assert reasons(left.trials) == {CRASHED}
    assert "running" not in left.search.tags[mlflow_names.NOTE]
    assert [one.calls for one in sync(folder)] == [0]
    # A second session, which dies as well.
    assert run_driver(folder, "random", workers, AtEpoch(2)) == -9
    assert [one.calls > 0 for one in sync(folder)] == [True]
    assert "RUNNING" not in read_outcome(folder).statuses
    assert run_driver(folder, "random", 0, None) == 0
    killed, whole = read_outcome(folder), undisturbed("random")
    assert killed.finished() == whole.finished()
    assert killed.told() == whole.told()
    assert killed.search.status == "FINISHED"
    assert mlflow_names.REASON not in killed.search.tags


def sync_in_another_process(folder: Path, search: str | None, file: Path) -> None:
    told: list[str] = []

    listen = noting(told)

    try:
        done = sync(folder, search, listener=listen)
        file.write_text(f"{[one.name for one in done]} {told}")
    except Busy as error:
        file.write_text(f"refused: {error}")


# What sync can do, and what it cannot.


@pytest.fixture
def left_over(folder: Path) -> tuple[Any, Search, Trial]:
    """A search that has ended, of which MLflow lacks the last that its trial and itself said."""
    client, search = run_search(one_config(folder), folder)
    (trial,) = reader.read_trials(client, search)
    outbox = workspace_of(folder / "runs", search.run_id).outbox
    for key in (trial.key, search.run_id):
        outbox.log_text(key, "hello", "late.txt")
        writer.Run(outbox, key).log(tags={"late": "yes"})
    return client, search, trial


def test_what_a_deleted_trial_lacks_waits_for_it(folder: Path, left_over: Any) -> None:
    client, search, trial = left_over
    client.delete_run(trial.run_id)
    told: list[str] = []
    (done,) = sync(folder, listener=noting(told))
    assert (done.calls, done.problem) == (2, "")
    assert client.get_run(search.run_id).data.tags["late"] == "yes"
    (line,) = told
    assert f"run {trial.run_id} was deleted in MLflow, and stays deleted" in line
    assert f"mlflow runs restore --run-id {trial.run_id}" in line
    client.restore_run(trial.run_id)
    assert [one.calls for one in sync(folder)] == [2]
    assert client.get_run(trial.run_id).data.tags["late"] == "yes"
    assert [one.calls for one in sync(folder)] == [0]


def test_a_deleted_search_is_left_so_and_holds_up_no_other(folder: Path, left_over: Any) -> None:
    client, search, _ = left_over
    other = folder / "runs" / "0123456789abcdef"
    other.mkdir()
    Workspace(other).describe("other", client.tracking_uri, "search")
    writer.Run(Workspace(other).outbox, other.name).log({"loss": 0.5})
    client.delete_run(search.run_id)
    told: list[str] = []
    (failed,) = sync(folder, listener=noting(told))
    assert (failed.name, failed.calls) == ("other", 0)
    assert "is not in sqlite" in failed.problem
    (line,) = told
    assert f"search 'one' (run {search.run_id}) was deleted in MLflow, and stays deleted" in line
    for asked in (
        lambda: sync(folder, "one"),
        lambda: api.best(search.run_id, uri=client.tracking_uri),
        lambda: api.resume(
            search.run_id, context=api.Context(uri=client.tracking_uri, folder=folder / "runs")
        ),
    ):
        with pytest.raises(Deleted, match=f"mlflow runs restore --run-id {search.run_id}"):
            asked()
    client.restore_run(search.run_id)
    brought, failed = sorted(sync(folder), key=lambda one: one.problem)
    assert (brought.name, brought.calls > 0, failed.name) == ("one", True, "other")


def test_a_trial_that_is_deleted_while_the_search_runs_holds_nothing_up(folder: Path) -> None:
    told: list[str] = []

    listen = noting(told)

    def delete(spec: TrialSpec) -> None:
        client, running = connect(one_config(folder).tracking.uri), []
        while not running:
            running = client.search_runs(["1"], "tags.`imdbtune.kind` = 'trial'")
            time.sleep(0.01)
        if spec.params.units == 5:
            client.delete_run(running[0].info.run_id)

    config = make_config(folder, name="one", space={"units": [5, 6]})
    client, search = run_search(config, folder, trainer=Stub(delete))
    assert search.status == "FINISHED"
    (left,) = reader.read_trials(client, search)
    assert (left.status, left.params.units) == ("FINISHED", 6)
    assert search.metrics["trials_finished"] == 1
    told.clear()
    assert [one.problem for one in sync(folder, listener=listen)] == [""]
    assert "was deleted in MLflow, and stays deleted" in told[0]


@pytest.mark.parametrize("asked", [None, "one"])
def test_what_died_before_it_had_a_run_is_told_and_lacks_nothing(
    asked: str | None, folder: Path
) -> None:
    assert run_forked(train_one, folder, AtWrite(2, "after")) == -9
    assert [path.name[:4] for path in (folder / "runs").iterdir()] == ["new-"]
    assert runs_of(folder) == []
    told: list[str] = []
    assert sync(folder, asked, listener=noting(told)) == []
    line = "training one crashed before its run was created in MLflow: nothing is missing."
    assert told == [line]
    with pytest.raises(UserError, match="no search"):
        sync(folder, asked)


def test_a_store_that_is_away_is_not_taken_for_one_without_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_forked(train_one, folder, AtWrite(2, "after")) == -9
    (workspace,) = list_unnamed_workspaces(folder / "runs")
    workspace.describe("one", "http://127.0.0.1:9", "training")
    (folder / "runs").rename(folder / ".imdbtune")
    monkeypatch.setattr("sys.argv", ["imdbtune", "sync"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (1, "")
    line = "imdbtune: training one: the tracking store http://127.0.0.1:9 cannot be used"
    assert told.err.startswith(line)
    assert len(told.err.splitlines()) == 1
    assert len(list_unnamed_workspaces(folder / ".imdbtune")) == 1


def test_sync_leaves_what_is_running_alone(folder: Path) -> None:
    said: list[str] = []

    def ask(event: Event) -> None:
        if isinstance(event, TrialEnded):
            for search in (None, "one"):
                run_forked(sync_in_another_process, folder, search, folder / "said")
                said.append((folder / "said").read_text())

    client, search = run_search(one_config(folder), folder, listener=ask)
    everything, named = said
    assert everything.startswith("[] ['another process is working on this search (")
    assert named.startswith("refused: another process is working on this search (")
    assert search.status == "FINISHED"
    assert [trial.status for trial in reader.read_trials(client, search)] == ["FINISHED"]
