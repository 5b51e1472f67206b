"""The folder of a search is removed while the search runs, or after its process was killed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imdbtune import api
from imdbtune.errors import FolderRemoved, SearchAborted
from imdbtune.search.parent_run import folder_tag
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.connection import connect
from imdbtune.tracking.sqlite_reader import open_runs
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.machines import wait_until
from tests.support import (
    Stub,
    draw_nothing,
    isolate,
    make_config,
    noting,
    prepare,
    run_search,
)
from tests.unit.confirm.test_runs import StubTrainer


def remove_in_second(spec: TrialSpec) -> None:
    if spec.folder.name != "0001":
        return
    runs = open_runs(f"sqlite:///{Path('mlflow.db').absolute()}")
    search = reader.find_search(runs)
    wait_until(
        lambda: any(trial.has_result for trial in reader.read_trials(runs, search)),
        "MLflow does not get the first trial",
    )
    shutil.rmtree(spec.folder.parents[2])


def test_a_search_whose_folder_is_removed_ends_and_closes_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    config = make_config(tmp_path, space={"units": [4, 8, 16]})
    with pytest.raises(SearchAborted, match=r"the folder .* was removed while the search ran"):
        run_search(config, tmp_path, trainer=Stub(remove_in_second))
    client = connect(config.tracking.uri)
    search = reader.find_search(client)
    statuses = [trial.status for trial in reader.read_trials(client, search)]
    assert statuses[:1] == ["FINISHED"]
    assert not {search.status, *statuses} & {*mlflow_names.OPEN}
    assert not (tmp_path / "runs").exists()
    _, again = run_search(make_config(tmp_path, name="again", space={"units": [4]}), tmp_path)
    assert again.status == "FINISHED"


def test_sync_closes_a_search_that_has_lost_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    prepare(tmp_path)
    client = connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    base = tmp_path / "runs"
    place = folder_tag(base)
    lost = writer.SearchRun.open(client, "lost", "imdbtune", {}, "search", "key", place)
    told: list[str] = []
    uri = str(client.tracking_uri)
    context = api.Context(uri=uri, folder=base, listener=noting(told))
    (done,) = api.sync("lost", context)
    assert (done.run_id, done.problem) == (lost.run_id, "")
    assert told == [f"search lost (run {lost.run_id}) had lost its folder: closed as KILLED."]
    assert reader.find_search(client, "lost").status == "KILLED"


@dataclass
class RemovesFolder(StubTrainer):
    """Removes the folder of all workspaces at its second training."""

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        if len(self.specs) == 1:
            shutil.rmtree(spec.folder.parents[2])
        return super().__call__(spec, on_epoch)


def test_a_confirmation_whose_folder_is_removed_ends_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    draw_nothing(monkeypatch)
    monkeypatch.setattr(writer.TrialRun, "log_model", lambda *arguments: None)
    config = make_config(tmp_path, space={"units": [4, 8]})
    client, search = run_search(config, tmp_path)
    context = api.Context(folder=tmp_path / "runs", workers=0, trainer=RemovesFolder())
    again = r"removed while the confirmation ran; .* Run imdbtune confirm again"
    with pytest.raises(FolderRemoved, match=again):
        api.confirm("tiny", context, top=2, seeds=1)
    confirmation = reader.find_confirmation(client, search)
    assert confirmation is not None
    statuses = {trial.status for trial in reader.read_trials(client, confirmation)}
    assert not {confirmation.status, *statuses} & {*mlflow_names.OPEN}
    done = api.confirm("tiny", replace(context, trainer=StubTrainer()), top=2, seeds=1)
    assert [len(row.run_ids) for row in done.rows] == [1, 1]
