"""Runs read without MLflow: the same as MLflow has them, from the same file."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import LoggedModelOutput

from imdbtune import api
from imdbtune.errors import UserError
from imdbtune.tracking import mlflow_names, reader, sqlite_reader, writer
from imdbtune.tracking.connection import connect
from imdbtune.tracking.sqlite_reader import SqliteRuns, open_runs
from imdbtune.tracking.writer import Run, SearchRun
from tests.support import isolate, new_store
from tests.unit.tracking.test_reader import FACTS, Store

NAMES = ("plain", "it's", 'a "quoted" one', "50 %", "näher; DROP TABLE runs", "a`b")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Searches of many names, with trials of every kind, and what was deleted."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        store = Store(folder, connect(new_store(folder)))
        for name in NAMES:
            store.search(name)
        search = store.search("full")
        for score, status in ((0.5, "FINISHED"), (0.9, "FINISHED"), (None, "RUNNING")):
            store.trial(search, score, status, units=8)
        for odd in (math.nan, math.inf, -math.inf):
            Run(store.client, store.trial(search, 0.1, "FAILED")).log({"best_val_loss": odd})
        trial = writer.TrialRun(store.client, store.trial(search, 0.7, rnn="gru"))
        trial.log_corpus(FACTS)
        for step in (1, 2, 3):
            trial.log({"loss": 1 / step}, step=step)
        store.client.log_outputs(trial.run_id, [LoggedModelOutput("m-1", step=0)])
        Run(store.client, search.start_baseline(mlflow_names.LINEAR, {"C": 0.1})).end("FINISHED")
        store.client.delete_run(store.trial(search, 0.99))
        confirmation = store.search("full", kind="confirm")
        confirmation.log(tags={mlflow_names.CONFIRMS: search.run_id})
        away = SearchRun.open(store.client, "away", "another", search.tags, "search")
        store.client.delete_experiment(away.experiment_id)
    return store


@pytest.fixture
def runs(filled: Store) -> SqliteRuns:
    opened = open_runs(str(filled.client.tracking_uri))
    assert isinstance(opened, SqliteRuns)
    return opened


def test_searches_are_those_that_mlflow_finds(filled: Store, runs: SqliteRuns) -> None:
    found = reader.read_searches(runs)
    assert found == reader.read_searches(filled.client)
    assert {search.name for search in found} == {*NAMES, "full"}
    assert reader.read_searches(runs, 2) == found[:2]
    for reference in (None, *NAMES, *(search.run_id for search in found)):
        assert reader.find_search(runs, reference) == reader.find_search(filled.client, reference)


@pytest.mark.parametrize(
    "reference", ["nothing", "' OR '1'='1", "0" * 32, "away", "", "%", "\udcff", "a\0b"]
)
def test_what_is_not_there_is_missed_in_the_same_words(
    reference: str, filled: Store, runs: SqliteRuns
) -> None:
    if not reference:
        assert reader.find_search(runs, reference) == reader.find_search(filled.client)
        return
    with pytest.raises(UserError) as told:
        reader.find_search(filled.client, reference)
    with pytest.raises(UserError) as same:
        reader.find_search(runs, reference)
    assert str(same.value) == str(told.value)


def test_trials_are_those_that_mlflow_has(filled: Store, runs: SqliteRuns) -> None:
    search = reader.find_search(runs, "full")
    found, told = (reader.read_trials(client, search) for client in (runs, filled.client))
    assert [str(asdict(trial)) for trial in found] == [str(asdict(trial)) for trial in told]
    assert [trial.score for trial in found][:3] == [0.9, 0.7, 0.5]
    assert len(found) == 7
    assert found[1].model_id == "m-1"
    assert reader.read_baselines(runs, search) == reader.read_baselines(filled.client, search)
    confirmed = reader.find_confirmation(runs, search)
    assert confirmed
    assert confirmed == reader.find_confirmation(filled.client, search)


def test_the_history_of_a_metric_is_that_of_mlflow(filled: Store, runs: SqliteRuns) -> None:
    search = reader.find_search(filled.client, "full")
    known = 0
    for trial in reader.read_trials(filled.client, search):
        for name in ("loss", "best_val_loss", "best_val_accuracy", "unheard of"):
            there = filled.client.get_metric_history(trial.run_id, name)
            found = runs.get_metric_history(trial.run_id, name)
            assert [told(metric) for metric in found] == [told(metric) for metric in there]
            known += len(found)
        assert reader.read_history(runs, trial.run_id, ("loss",)) == reader.read_history(
            filled.client, trial.run_id, ("loss",)
        )
    assert known > 6  # three steps of one trial, and what is not finite


def told(metric: Any) -> tuple[str, ...]:
    return tuple(map(str, (metric.key, metric.value, metric.timestamp, metric.step)))


def test_a_deleted_search_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, tmp_path)
    store = Store(tmp_path, connect(new_store(tmp_path)))
    search = store.search()
    store.client.delete_run(search.run_id)
    with pytest.raises(UserError, match="was deleted in MLflow"):
        reader.find_search(open_runs(str(store.client.tracking_uri)), search.run_id)


def test_many_runs_are_read_in_parts(
    filled: Store, runs: SqliteRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = reader.find_search(runs, "full")
    whole = reader.read_trials(runs, search)
    monkeypatch.setattr(sqlite_reader, "IN_A_QUERY", 2)
    assert str(reader.read_trials(runs, search)) == str(whole)


def test_tables_of_another_version_are_left_to_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    uri = new_store(tmp_path)
    connect(uri)
    assert isinstance(open_runs(uri), SqliteRuns)
    monkeypatch.setattr(sqlite_reader, "SCHEMAS", ("another",))
    assert not isinstance(open_runs(uri), SqliteRuns)


def test_mlflow_s_last_migration_is_the_one_that_is_known(filled: Store) -> None:
    """If not, look at what it has changed, then add it to SCHEMAS."""
    assert SqliteRuns(filled.folder / "mlflow.db").schema() == sqlite_reader.SCHEMAS[-1]


def test_nothing_is_written(filled: Store, runs: SqliteRuns) -> None:
    before = (filled.folder / "mlflow.db").read_bytes()
    reader.read_trials(runs, reader.find_search(runs, "full"))
    assert (filled.folder / "mlflow.db").read_bytes() == before
    assert not list(filled.folder.glob("mlflow.db-*"))


def test_a_damaged_file_is_told_of_in_a_line(filled: Store, tmp_path: Path) -> None:
    raw = bytearray((filled.folder / "mlflow.db").read_bytes())
    with closing(sqlite3.connect(filled.folder / "mlflow.db")) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'runs'"
        ).fetchone()
    raw[size * (root - 1) : size * root] = os.urandom(size)
    (tmp_path / "mlflow.db").write_bytes(raw)
    with pytest.raises(UserError, match=r"cannot be (read|used)") as hit:
        reader.find_search(open_runs(f"sqlite:///{tmp_path}/mlflow.db"))
    assert len(str(hit.value).splitlines()) == 1


LISTING = """
import sys
from imdbtune import api
compared = api.compare(["full"], uri=sys.argv[1])
print(len(compared.rows), sorted({"mlflow", "sqlalchemy", "pandas", "tensorflow"} & {*sys.modules}))
"""


def test_trials_are_compared_without_importing_mlflow(filled: Store) -> None:
    command = [sys.executable, "-c", LISTING, str(filled.client.tracking_uri)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "7 []\n"


def test_a_search_that_is_named_twice_is_compared_once(filled: Store, runs: SqliteRuns) -> None:
    uri = str(filled.client.tracking_uri)
    full = reader.find_search(runs, "full")
    once, twice = (api.compare(refs, uri=uri) for refs in (["full"], ["full", full.run_id, "full"]))
    assert len(once.rows) > 0
    assert twice == once


def test_it_waits_for_one_who_writes(
    filled: Store, runs: SqliteRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_reader, "TIMEOUT_S", 0.05)
    path: Any = filled.folder / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="locked"):
            reader.find_search(runs)
        writer.execute("ROLLBACK")
    assert reader.find_search(runs)
