"""Searches are deleted, restored and renamed, and everything else copes with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.errors import Busy, Deleted, UserError
from imdbtune.search.workspace import Workspace
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.connection import connect
from tests.support import draw_nothing, isolate, make_config, prepare
from tests.unit.confirm.test_runs import StubTrainer

CONFIRMED = 2 * 2 + 1  # runs: two configurations with two seeds, and their parent
ALL = CONFIRMED + 4 + 1  # four trials and their parent


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a confirmed search, after an older one."""
    folder = tmp_path_factory.mktemp("confirmed")
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setattr(writer.TrialRun, "log_model", lambda *arguments: None)
        prepare(folder)
        isolate(patch, folder)
        api.search(make_config(folder, name="older", space={"units": [4]}), context())
        api.search(make_config(folder), context())
        api.confirm("tiny", context(), top=2, seeds=2)
    return folder


@pytest.fixture
def here(confirmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder."""
    draw_nothing(monkeypatch)
    shutil.copytree(confirmed, tmp_path, dirs_exist_ok=True)
    return isolate(monkeypatch, tmp_path)


def context() -> api.Context:
    return api.Context(workers=0, trainer=StubTrainer())


def client() -> Any:
    return connect(f"sqlite:///{Path.cwd() / 'mlflow.db'}")


def names() -> list[str]:
    return [row.search.name for row in api.list_searches()]


def test_a_deleted_search_is_gone_and_comes_back_whole(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, best = api.best("tiny")
    confirmed = api.read_confirmation(found)
    assert app(["delete", "tiny"], standalone_mode=False) is None
    told = capsys.readouterr().out
    assert f"{ALL} runs moved to MLflow's bin" in told
    assert f"imdbtune delete {found.run_id} --undo" in told
    assert names() == ["older"]
    assert api.best()[0].name == "older"
    for call in (api.best, api.compare, api.resume, api.confirm, api.delete):
        given: Any = ["tiny"] if call is api.compare else "tiny"
        with pytest.raises(Deleted, match=f"imdbtune delete {found.run_id} --undo"):
            call(given)
    with pytest.raises(Deleted):
        api.best(found.run_id)
    assert api.sync() is not None  # the other searches of the folder
    assert api.undelete("tiny").runs == ALL
    assert api.best("tiny")[1].run_id == best.run_id
    assert api.read_confirmation(api.best("tiny")[0]) == confirmed
    assert not any(mlflow_names.DELETED_WITH in tags for tags in all_tags())
    assert api.resume("tiny", {"tuner.max_trials": 5}, context()).run_id == found.run_id


def all_tags() -> list[dict[str, str]]:
    store = client()
    return [
        run.data.tags
        for run in store.search_runs([e.experiment_id for e in store.search_experiments()])
    ]


def test_what_was_deleted_before_stays_deleted(here: Path) -> None:
    store = client()
    last = api.compare(["tiny"]).rows[-1]["run_id"]
    store.delete_run(last)
    assert api.delete("tiny").runs == ALL - 1
    found = reader.as_search(store.get_run(api.undelete("tiny").search.run_id))
    assert len(reader.read_trials(store, found)) == 3
    assert reader.is_deleted(store, last)


def test_the_parent_may_have_been_restored_by_hand(here: Path) -> None:
    store = client()
    found = api.delete("tiny").search
    store.restore_run(found.run_id)
    assert reader.read_trials(store, found) == []
    assert api.undelete(found.run_id).runs == ALL
    assert len(reader.read_trials(store, found)) == 4


def test_an_interrupted_deletion_can_be_repeated(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client()
    deleted: list[str] = []

    def delete_run(self: Any, run_id: str) -> None:
        if len(deleted) == 3:
            raise KeyboardInterrupt
        deleted.append(run_id)
        original(self, run_id)

    original = type(store).delete_run
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "delete_run", delete_run)
        with pytest.raises(KeyboardInterrupt):
            api.delete("tiny")
    assert api.delete("tiny").runs == ALL - 3
    assert api.undelete("tiny").runs == ALL


def test_a_running_search_is_refused(here: Path) -> None:
    store, found = client(), api.best("tiny")[0]
    store.update_run(found.run_id, status="RUNNING")
    for call in (lambda: api.delete("tiny"), lambda: api.rename("tiny", "new")):
        with pytest.raises(Busy, match="is running"):
            call()
    store.update_run(found.run_id, status="FINISHED")
    confirmation = reader.find_confirmation(store, found)
    assert confirmation is not None
    store.update_run(confirmation.run_id, status="RUNNING")
    with pytest.raises(Busy, match="confirm-tiny"):
        api.delete("tiny")
    store.update_run(confirmation.run_id, status="FINISHED")
    with (
        Workspace(here / ".imdbtune" / found.run_id).locked(),
        pytest.raises(Busy, match="another process"),
    ):
        api.delete("tiny")


def test_a_search_is_found_by_its_new_name(here: Path) -> None:
    store, found = client(), api.best("tiny")[0]
    assert app(["rename", "tiny", "released"], standalone_mode=False) is None
    assert names() == ["released", "older"]
    assert store.get_run(found.run_id).info.run_name == "released"
    assert api.compare(["released"]).rows
    with pytest.raises(UserError, match="no search 'tiny'"):
        api.best("tiny")
    confirmation = reader.find_confirmation(store, found)
    assert confirmation is not None
    assert store.get_run(confirmation.run_id).info.run_name == "confirm-released"
    (workspace,) = [w for w in here.glob(".imdbtune/*") if w.name == found.run_id]
    assert Workspace(workspace).name == "released"
    assert Workspace(workspace).saved_run["tags"][mlflow_names.SEARCH] == "released"
    again = api.resume("released", {"tuner.max_trials": 5}, context())
    assert (again.run_id, again.name) == (found.run_id, "released")


def test_undo_without_a_deletion_is_refused(here: Path) -> None:
    for reference in ("tiny", api.best("tiny")[0].run_id, "a'b"):
        with pytest.raises(UserError, match="is in MLflow's bin"):
            api.undelete(reference)
