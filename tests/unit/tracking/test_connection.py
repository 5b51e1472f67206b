from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from imdbtune.errors import UserError
from imdbtune.tracking import connection
from imdbtune.tracking.connection import (
    connect,
    connect_existing,
    hide_secrets,
    is_local,
    resolve_uri,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; no tracking store is named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("uri", "environment", "expected"),
    [
        ("", "", "sqlite:///{here}/mlflow.db"),
        ("", "http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:///mine.db", "http://127.0.0.1:5000", "sqlite:///{here}/mine.db"),
        ("", "sqlite:///theirs.db", "sqlite:///{here}/theirs.db"),
        ("sqlite:////tmp/mlflow.db", "", "sqlite:////tmp/mlflow.db"),
        ("https://me:word@host/mlflow", "", "https://me:word@host/mlflow"),
        ("postgresql+psycopg2://host/db", "", "postgresql+psycopg2://host/db"),
    ],
)
def test_the_store_that_is_meant(
    uri: str, environment: str, expected: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    assert resolve_uri(uri) == expected.format(here=here)


def test_a_stray_mlruns_folder_does_not_change_the_store(here: Path) -> None:
    (here / "mlruns" / "0").mkdir(parents=True)
    (here / "mlruns" / "0" / "meta.yaml").touch()
    assert resolve_uri() == f"sqlite:///{here}/mlflow.db"


@pytest.mark.parametrize(
    "uri", ["mlruns", "./mlruns", "/data/mlruns", "ftp://host/x", "C:\\mlruns"]
)
def test_what_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_uri(uri)
    message = str(caught.value)
    assert repr(uri) in message
    assert "sqlite:///mlflow.db" in message


def test_a_folder_that_is_missing_is_named(here: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*/nowhere' for sqlite:///nowhere/mlflow\.db"):
        resolve_uri("sqlite:///nowhere/mlflow.db")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "hidden"),
    [
        ("http://me:word@host:5000/a?b", "http://***@host:5000/a?b"),
        ("postgresql+psycopg2://me@host/db", "postgresql+psycopg2://***@host/db"),
        ("http://me:w@rd@host", "http://***@host"),
        ("mysql://me:w/rd@host/db", "mysql://***@host/db"),
        ("mysql://me:w#rd@host/db", "mysql://***@host/db"),
        ("http://me:word@[bad", "http://***@[bad"),
        ("postgresql://host/db?user=me&password=word", "postgresql://host/db?user=me&password=***"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////data/me@home/mlflow.db", "sqlite:////data/me@home/mlflow.db"),
    ],
)
def test_user_names_and_passwords_are_not_shown(uri: str, hidden: str) -> None:
    assert hide_secrets(uri) == hidden


def test_a_refused_uri_shows_no_password() -> None:
    with pytest.raises(UserError) as caught:
        resolve_uri("ftp://me:word@host/x")
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "local"), [("sqlite:////tmp/x.db", True), ("http://127.0.0.1:5000", False)]
)
def test_a_local_store_lies_on_this_disk(uri: str, local: bool) -> None:
    assert is_local(uri) is local


def test_a_store_is_made_where_there_is_none(here: Path) -> None:
    client = connect(resolve_uri())
    assert [e.name for e in client.search_experiments()] == ["Default"]
    assert (here / "mlflow.db").is_file()


def test_a_new_user_is_told_what_takes_so_long(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SLOW_S", 0.0)
    told: list[str] = []
    uri = f"sqlite:///{here}/mlflow.db"
    for _ in range(2):
        connect(uri, told.append)
    assert told[0] == f"creating the tracking store {uri} ..."
    assert told[-1] == f"waiting for the tracking store {uri} to answer ..."


def test_a_store_that_was_cut_off_in_the_making_does_not_stand_in_the_way(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils

    def cut_off(engine: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", cut_off)
        with pytest.raises(KeyboardInterrupt):
            connect(resolve_uri())
    assert not Path("mlflow.db").exists()
    connect(resolve_uri())
    assert Path("mlflow.db").exists()


def test_a_file_that_is_no_database_stays_as_it_was(here: Path) -> None:
    (here / "notes.txt").write_text("not a database, but mine")
    with pytest.raises(UserError, match=r"notes\.txt' is not an SQLite file"):
        connect(resolve_uri("sqlite:///notes.txt"))
    assert (here / "notes.txt").read_text() == "not a database, but mine"


def test_a_folder_is_no_database(here: Path) -> None:
    with pytest.raises(UserError, match="is a folder, not an SQLite file"):
        connect(f"sqlite:///{here}")


def test_a_damaged_database_is_refused_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow itself would sleep between ten attempts."""
    from mlflow.store.db import utils

    monkeypatch.setattr(utils.time, "sleep", lambda seconds: pytest.fail("MLflow tries again"))
    (here / "mlflow.db").write_bytes(b"SQLite format 3\x00 and then nothing of the kind")
    refused(resolve_uri(), "file is not a database")


def test_the_environment_has_defaults_that_do_not_replace_its_own_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "")
    connection.set_environment_defaults()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"


def test_a_database_of_something_else_keeps_what_it_holds(here: Path) -> None:
    with sqlite3.connect(here / "mlflow.db") as database:
        database.execute("CREATE TABLE films (title TEXT)")
        database.execute("INSERT INTO films VALUES ('Stalker')")
    connect(resolve_uri())
    with sqlite3.connect(here / "mlflow.db") as database:
        assert database.execute("SELECT title FROM films").fetchall() == [("Stalker",)]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://me:word@127.0.0.1:9", "http://***@127.0.0.1:9 cannot be used: Connection refused"),
        (
            "mysql+nonesuch://me:word@127.0.0.1/db",
            "mysql+nonesuch://***@127.0.0.1/db cannot be used",
        ),
        ("file:///nowhere/mlruns", "file:///nowhere/mlruns cannot be used"),
    ],
)
def test_a_store_that_does_not_answer_is_refused_without_its_password(
    uri: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    refused(uri, f"the tracking store {expected}")


def refused(uri: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        connect(uri)
    message = str(caught.value)
    assert expected in message
    assert "word" not in message
    assert len(message.splitlines()) == 1


def test_a_store_that_cannot_be_written_can_be_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(resolve_uri())
    path = here / "mlflow.db"
    path.chmod(0o444)
    monkeypatch.setattr("os.access", lambda there, mode: False)  # it does not bind root
    with pytest.raises(UserError, match=r"mlflow\.db' cannot be written"):
        connect_existing()
    before = path.read_bytes()
    assert connect_existing(reading=True).search_experiments()
    assert path.read_bytes() == before
