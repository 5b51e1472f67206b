"""The tracking store, or parts of it, is deleted while a search runs or after it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.errors import NotDelivered
from imdbtune.tracking import background_delivery, mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import as_row
from imdbtune.tracking.sqlite_reader import open_runs
from imdbtune.training.spec import TrialSpec
from tests.forked import run_command
from tests.machines import wait_until
from tests.outages import ask_again_soon
from tests.support import (
    Stub,
    draw_nothing,
    isolate,
    make_config,
    new_store,
    noting,
    prepare,
    stub_trainer,
    write_tiny_model,
)

UNITS = [4, 8, 16]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ask_again_soon(monkeypatch)
    draw_nothing(monkeypatch)
    prepare(tmp_path)
    return isolate(monkeypatch, tmp_path)


def context(told: list[str], first: Callable[[TrialSpec], None] | None = None) -> api.Context:
    trainer = Stub(first) if first else stub_trainer
    return api.Context(workers=0, listener=noting(told), trainer=trainer)


def search(told: list[str], first: Callable[[TrialSpec], None] | None = None, **how: Any) -> Any:
    config = make_config(Path.cwd(), space={"units": UNITS}, **how)
    return api.search(config, context(told, first))


def facts(reference: str = "tiny") -> list[dict[str, object]]:
    """What a search's trials are, apart from the ids of their runs."""
    runs = open_runs()
    found = reader.find_search(runs, reference)
    rows = [as_row(trial) for trial in reader.read_trials(runs, found)]
    return [{name: value for name, value in row.items() if name != "run_id"} for row in rows]


def run(*words: str) -> tuple[int, list[str]]:
    """The exit code and the lines of a command in another process, with a store of its own."""
    done = run_command(Path.cwd(), *words)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def await_artifact(name: str) -> None:
    wait_until(lambda: any(Path.cwd().glob(f"mlruns/*/*/artifacts/{name}")), f"no {name}")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "replaced": lambda store: (store.unlink(), new_store(store.parent)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_that_is_lost_while_a_search_runs_is_written_anew(here: Path, damage: str) -> None:
    told: list[str] = []

    def lose(spec: TrialSpec) -> None:
        if spec.params.units == UNITS[1]:
            await_artifact("history.csv")
            DAMAGES[damage](here / "mlflow.db")

    patience = background_delivery.PATIENCE_S
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(background_delivery, "PATIENCE_S", 1.0 if damage == "replaced" else patience)
        began = time.monotonic()
        with pytest.raises(NotDelivered) as hit:
            search(told, lose)
    assert time.monotonic() - began < patience / 2
    line = str(hit.value)
    if damage != "replaced":
        assert "mlflow.db was deleted or emptied; the remaining data is kept in" in line
        assert line.endswith("--restore")
    (workspace,) = (here / ".imdbtune").iterdir()
    code, lines = run("sync", workspace.name, "--restore")
    assert code == 0, lines
    runs = open_runs()
    found = reader.find_search(runs, "tiny")
    written = f"is not in sqlite:///{here}/mlflow.db: written anew as run {found.run_id}."
    assert f"search tiny (run {workspace.name}) {written}" in lines
    assert [row["units"] for row in facts()] == [16, 8, 4]
    assert (found.status, found.metrics["trials_finished"]) == ("FINISHED", 3)
    assert "3 finished" in found.tags[mlflow_names.NOTE]
    for trial in reader.read_trials(runs, found):
        assert reader.read_text(runs, trial.run_id, "history.csv")
        assert [m["epoch"] for m in reader.read_history(runs, trial.run_id)] == [1, 2, 3]


def test_a_finished_search_is_written_anew_and_resumed(here: Path) -> None:
    told: list[str] = []
    old = search(told, write_tiny_model, tracking={"keep_models": "best"})
    before = facts()
    (here / "mlflow.db").unlink()
    remedy = f"write it anew from this folder: imdbtune sync {old.run_id} --restore"
    for words in (["best"], ["compare", "tiny"], ["report"], ["confirm"], ["search", "--resume"]):
        code, lines = run(*words)
        assert (code, len(lines)) == (2, 1), lines
        assert lines[0].endswith(remedy)
    assert not (here / "mlflow.db").exists()
    code, lines = run("sync", "tiny", "--restore")
    assert code == 0, lines
    assert not any("lost, as" in line for line in lines)  # the files were in mlruns/
    assert facts() == before
    (best, *_) = reader.read_trials(open_runs(), reader.find_search(open_runs()))
    (about,) = here.glob(f"mlruns/*/models/{best.model_id}/artifacts/MLmodel")
    assert f"run_id: {best.run_id}" in about.read_text()
    code, lines = run("search", "--resume", "tiny", "--quiet", "--workers", "0")
    assert (code, len(facts())) == (0, 3), lines
    assert "--restore" not in str(run("best", "nothing")[1])
    (here / "mlflow.db").unlink()
    shutil.rmtree("mlruns")
    code, lines = run("sync", "tiny", "--restore")
    assert facts() == before
    lost = "the history files and plots of 3 runs and the models of 1 run"
    assert any(lost in line for line in lines)


def test_lost_artifacts_are_reported_and_written_anew(here: Path) -> None:
    told: list[str] = []

    def lose(spec: TrialSpec) -> None:
        if spec.params.units == UNITS[2]:
            await_artifact("config.toml")
            shutil.rmtree(here / "mlruns")

    found = search(told, lose)
    assert found.status == "FINISHED"
    assert any(f"imdbtune sync {found.run_id} --restore" in line for line in told)
    again = api.resume("tiny", {}, context(told))
    assert again.status == "FINISHED"
    told.clear()
    api.sync("tiny", context(told), restore=True)
    client = connect(f"sqlite:///{here}/mlflow.db")
    assert b"tiny" in reader.read_artifact(client, found.run_id, "config.toml")
    assert told[-1].startswith("lost, as the artifacts")


def test_a_deleted_trial_is_not_written_anew(here: Path) -> None:
    told: list[str] = []
    search(told)
    client = connect(f"sqlite:///{here}/mlflow.db")
    _, best = api.best()
    client.delete_run(best.run_id)
    before = facts()
    api.sync("tiny", context(told), restore=True)
    assert facts() == before
    assert len(before) == 2
