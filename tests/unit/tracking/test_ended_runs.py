"""Runs written to MLflow's tables at once: the same rows and files as MLflow makes of them."""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.tracking import ended_runs, outbox_delivery, sqlite_reader, writer
from imdbtune.tracking.background_delivery import BackgroundDelivery
from imdbtune.tracking.connection import connect
from imdbtune.tracking.ended_runs import EndedRun
from imdbtune.tracking.outbox import DeliveryState, Outbox
from imdbtune.tracking.outbox_delivery import DeliveryCache, deliver, is_temporary
from imdbtune.tracking.sqlite_reader import SqliteRuns
from imdbtune.tracking.writer import Run, SearchRun, TrialRun
from tests.support import isolate, new_store
from tests.unit.tracking.test_reader import FACTS

ID = re.compile(r"[0-9a-f]{32}")
Write = Callable[[TrialRun, Path], None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


def opened(folder: Path) -> tuple[MlflowClient, Outbox, SearchRun]:
    """A search in a store of its own."""
    folder.mkdir(exist_ok=True)
    client, outbox = connect(new_store(folder)), Outbox(folder / "spool")
    tags = {"imdbtune.seed": "1", writer.DATA: "tiny"}
    return client, outbox, SearchRun.open(client, "tiny", "imdbtune", tags, "search")


def write_trial(outbox: Outbox, search: SearchRun, write: Write, place: Path) -> TrialRun:
    begun = replace(search, client=outbox)
    trial = TrialRun(outbox, begun.start_trial("0000", TrialParams(), {"seed": 1}))
    write(trial, place)
    return trial


def tables(folder: Path) -> dict[str, list[str]]:
    """What is in the store, without the ids and the times, which no two have in common."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        names = [
            n for (n,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        found = {}
        for name in names:
            cursor = database.execute(f'SELECT * FROM "{name}"')
            columns = [column for column, *_ in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            found[name] = sorted(repr(sorted(map(_plain, row.items()))) for row in rows)
    return {name: rows for name, rows in found.items() if name != "trace_info"}


def _plain(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    if name.endswith("time") or name == "timestamp":
        return name, value is not None
    return name, ID.sub("ID", value) if isinstance(value, str) else value


def finished(trial: TrialRun, place: Path) -> None:
    """All that a trial tells."""
    trial.log_corpus(FACTS)
    for step in (1, 2, 3):
        trial.log({"loss": 1 / step, "val_accuracy": 0.5 + step / 10}, step=step)
    trial.log(
        {"best_val_accuracy": 0.8, "epochs_run": 3}, tags={"told": "once", "imdbtune.seed": "2"}
    )
    trial.log(tags={"told": "again"}, params={"seed": 1, "more": True})
    at_one_step = [("a", 0.9, 5), ("a", 0.1, 5), ("b", 0.1, 9), ("b", 0.9, 5), ("b", 0.9, 5)]
    at_one_step += [("c", 0.5, 5), ("c", 0.5, 6)]
    trial.client.log_batch(trial.run_id, [Metric(k, v, at, 1) for k, v, at in at_one_step])
    history = place / "history"
    history.mkdir(parents=True)
    (history / "history.csv").write_text("epoch\n1\n")
    trial.client.log_artifacts(trial.run_id, str(history))
    trial.end("FINISHED")


def failed(trial: TrialRun, place: Path) -> None:
    """As when a worker has died."""
    trial.log({"loss": 0.5}, step=7)
    trial.log({"loss": 0.6}, step=3)  # later, and of a step before
    trial.end("FAILED", "the worker process died")


def silent(trial: TrialRun, place: Path) -> None:
    """One that says nothing."""
    trial.end("KILLED")


@pytest.mark.parametrize("write", [finished, failed, silent])
def test_the_store_is_as_mlflow_would_have_it(
    write: Write, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for way in ("at once", "by mlflow"):
        folder = here / way
        client, outbox, search = opened(folder)
        trials = [write_trial(outbox, search, write, folder / str(n)) for n in range(2)]
        if way == "by mlflow":
            monkeypatch.setattr(outbox_delivery, "write_runs", lambda store, runs: {})
        deliver(client, outbox, search.run_id, DeliveryCache())
        states = [outbox.delivered(trial.run_id) for trial in trials]
        for state in states:
            assert client.get_run(state.run_id).info.artifact_uri.endswith("artifacts")
        files = [[a.path for a in client.list_artifacts(state.run_id)] for state in states]
        runs = [replace(state, run_id="") for state in states]
        assert outbox.is_empty()
        assert not list(outbox.folder.glob("*/log_artifacts-*"))
        keys = [client.get_run(s.run_id).data.tags[writer.KEY] for s in states]
        assert keys == [trial.run_id for trial in trials]
        rows = {
            name: [_keyless(row, keys) for row in rows] for name, rows in tables(folder).items()
        }
        found.append((rows, files, runs))
    assert found[0] == found[1]
    assert len(found[0][0]["runs"]) == 3


def _keyless(row: str, keys: list[str]) -> str:
    for key in keys:
        row = row.replace(key, "KEY")
    return re.sub(r"/(at once|by mlflow)/", "/WAY/", row)


def test_many_runs_take_no_request_of_mlflow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, outbox, search = opened(here)
    monkeypatch.setattr(outbox_delivery, "AT_ONCE", 2)
    trials = [write_trial(outbox, search, failed, here) for _ in range(5)]
    monkeypatch.setattr(MlflowClient, "create_run", lambda *a, **k: pytest.fail("asked MLflow"))
    memory = DeliveryCache()
    assert deliver(client, outbox, search.run_id, memory) == 6 * 5
    assert deliver(client, outbox, search.run_id, memory) == 0
    assert not memory.doubtful
    ids = {outbox.delivered(trial.run_id).run_id for trial in trials}
    assert {client.get_run(run_id).info.status for run_id in ids} == {"FAILED"}
    assert len(ids) == 5


def under_way(trial: TrialRun, place: Path) -> None:
    trial.log({"loss": 0.5})


def diverged(trial: TrialRun, place: Path) -> None:
    trial.log({"loss": float("nan")})
    trial.end("FINISHED")


def endless(trial: TrialRun, place: Path) -> None:
    trial.log({"loss": float("inf")})
    trial.end("FINISHED")


def wordy(trial: TrialRun, place: Path) -> None:
    trial.log(tags={"told": "x" * 9000})
    trial.end("FINISHED")


def with_a_text(trial: TrialRun, place: Path) -> None:
    trial.fail("came out as nan", "Traceback")


def ended_twice(trial: TrialRun, place: Path) -> None:
    trial.end("KILLED", "cut off")
    trial.end("FINISHED")


def renamed(trial: TrialRun, place: Path) -> None:
    trial.log(tags={"mlflow.runName": "another"})
    trial.end("FINISHED")


def of_a_user(trial: TrialRun, place: Path) -> None:
    trial.log(tags={"mlflow.user": "somebody"})
    trial.end("FINISHED")


def half_a_character(trial: TrialRun, place: Path) -> None:
    trial.log(tags={"told": "\udcff"})
    trial.end("FINISHED")


ODD = [under_way, diverged, endless, wordy, with_a_text, ended_twice, renamed, of_a_user]


@pytest.mark.parametrize("write", ODD)
def test_what_asks_for_judgement_is_left_to_mlflow(write: Write, here: Path) -> None:
    client, outbox, search = opened(here)
    trial = write_trial(outbox, search, write, here)
    calls = [call for call, _ in outbox.pending_calls(trial.run_id)]
    assert EndedRun.of(calls) is None
    deliver(client, outbox, search.run_id, DeliveryCache())
    run = client.get_run(outbox.delivered(trial.run_id).run_id)
    assert run.data.tags[writer.KEY] == trial.run_id
    assert EndedRun.of([]) is None
    assert EndedRun.of(calls[:1]) is None


def test_a_parameter_with_two_values_is_refused_by_mlflow(here: Path) -> None:
    client, outbox, search = opened(here)
    trial = write_trial(outbox, search, under_way, here)
    trial.log(params={"seed": 2})
    trial.end("FINISHED")
    with pytest.raises(Exception, match="Changing param values is not allowed"):
        deliver(client, outbox, search.run_id, DeliveryCache())


def test_text_that_is_none_goes_to_mlflow(here: Path) -> None:
    client, outbox, search = opened(here)
    write_trial(outbox, search, half_a_character, here)
    with pytest.raises(Exception, match="surrogates not allowed"):
        deliver(client, outbox, search.run_id, DeliveryCache())
    assert len(client.search_runs([search.experiment_id])) == 2


def test_tables_of_another_version_are_mlflows_own(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, outbox, search = opened(here)
    trial = write_trial(outbox, search, finished, here)
    monkeypatch.setattr(sqlite_reader, "SCHEMAS", ("another",))
    monkeypatch.setattr(
        outbox_delivery, "write_runs", lambda *a: pytest.fail("written without MLflow")
    )
    deliver(client, outbox, search.run_id, DeliveryCache())
    assert client.get_run(outbox.delivered(trial.run_id).run_id).info.status == "FINISHED"


def test_to_a_deleted_experiment_nothing_is_written(here: Path) -> None:
    client, outbox, search = opened(here)
    trial = write_trial(outbox, search, finished, here)
    run = EndedRun.of([call for call, _ in outbox.pending_calls(trial.run_id)])
    assert run is not None
    client.delete_experiment(search.experiment_id)
    assert ended_runs.write_runs(SqliteRuns(here / "mlflow.db"), {"key": run}) == {}


def test_a_locked_store_is_written_when_it_is_free(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, outbox, search = opened(here)
    trial = write_trial(outbox, search, finished, here)
    memory = DeliveryCache()
    monkeypatch.setattr(sqlite_reader, "TIMEOUT_S", 0.01)
    with closing(sqlite3.connect(here / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked") as locked:
            deliver(client, outbox, search.run_id, memory)
        assert is_temporary(locked.value)
        delivery = BackgroundDelivery(client, outbox, search.run_id, None, print)
        assert "cannot be written (database is locked)" in delivery._told(locked.value)
    assert outbox.delivered(trial.run_id) == DeliveryState()
    deliver(client, outbox, search.run_id, memory)
    assert client.get_run(outbox.delivered(trial.run_id).run_id).info.status == "FINISHED"
    assert len(client.search_runs([search.experiment_id])) == 2


def test_what_is_cut_short_before_the_files_comes_out_as_one_run(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, outbox, search = opened(here)
    trials = [write_trial(outbox, search, finished, here / str(n)) for n in range(2)]
    memory = DeliveryCache()
    with monkeypatch.context() as patch:
        patch.setattr(writer, "artifact_repository", lambda *a: shutil.copy2("nothing", "nowhere"))
        with pytest.raises(FileNotFoundError):
            deliver(client, outbox, search.run_id, memory)
    assert memory.doubtful == {trial.run_id for trial in trials}
    deliver(client, outbox, search.run_id, memory)
    assert len(client.search_runs([search.experiment_id])) == 3
    for trial in trials:
        run_id = outbox.delivered(trial.run_id).run_id
        assert [a.path for a in client.list_artifacts(run_id)] == ["history.csv"]
        steps = [metric.step for metric in client.get_metric_history(run_id, "loss")]
        assert sorted(steps) == [1, 2, 3]


def test_files_that_were_moved_before_that_was_noted_are_not_missed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, outbox, search = opened(here)
    trial = write_trial(outbox, search, finished, here)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "note", lambda *arguments: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            deliver(client, outbox, search.run_id, DeliveryCache())
    assert not list(outbox.folder.glob("*/log_artifacts-*"))
    deliver(client, outbox, search.run_id, DeliveryCache.at_start(outbox))
    run_id = outbox.delivered(trial.run_id).run_id
    assert [a.path for a in client.list_artifacts(run_id)] == ["history.csv"]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert len(client.search_runs([search.experiment_id])) == 2


@pytest.mark.parametrize("same_disk", [True, False])
def test_files_are_moved_where_that_goes_and_copied_elsewhere(
    here: Path, monkeypatch: pytest.MonkeyPatch, same_disk: bool
) -> None:
    """Both into folders with the rights of new ones."""
    client, outbox, search = opened(here)

    def two_folders(trial: TrialRun, place: Path) -> None:
        for name in ("first", "second"):
            folder = place / name
            (folder / "inside").mkdir(parents=True)
            folder.chmod(0o700)
            (folder / f"{name}.csv").write_text(name)
            (folder / "inside" / f"{name}.txt").write_text(name)
            trial.client.log_artifacts(trial.run_id, str(folder))
        trial.end("FINISHED")

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, "Invalid cross-device link", str(path))

    trial = write_trial(outbox, search, two_folders, here)
    if not same_disk:
        monkeypatch.setattr(Path, "rename", refuse)
    deliver(client, outbox, search.run_id, DeliveryCache())
    run = client.get_run(outbox.delivered(trial.run_id).run_id)
    there = Path(run.info.artifact_uri)
    files = {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
    assert files == {"first.csv", "inside/first.txt", "second.csv", "inside/second.txt"}
    assert there.stat().st_mode == there.parent.stat().st_mode
    assert not list(outbox.folder.glob("*/log_artifacts-*"))


def test_what_a_killed_run_still_says_is_not_passed_on(here: Path) -> None:
    client, outbox, search = opened(here)
    trial = write_trial(outbox, search, silent, here)
    memory = DeliveryCache()
    deliver(client, outbox, search.run_id, memory)
    trial.log({"loss": 0.5})
    Run(outbox, trial.run_id).end("FINISHED")
    deliver(client, outbox, search.run_id, memory)
    run = client.get_run(outbox.delivered(trial.run_id).run_id)
    assert (run.info.status, dict(run.data.metrics)) == ("KILLED", {})
