"""Files of stores whose creation was killed are deleted, unless a process is still at it."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from filelock import FileLock

from imdbtune.tracking.connection import connect
from tests.support import new_store

KILLED = """
import os, signal, sys
from imdbtune.tracking import connection

connection.open_client = lambda uri: (open(uri[10:], "w").close(), os.kill(os.getpid(), 9))
connection.connect(sys.argv[1])
"""
KEY = uuid.uuid4().hex


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_next_command_deletes_what_a_killed_one_left(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", KILLED, uri], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [name.rpartition(".")[2] for name in sorted(names(tmp_path))] == ["part", "lock"]
    new_store(tmp_path)
    connect(uri)
    assert names(tmp_path) == {"mlflow.db"}


@pytest.mark.parametrize("ending", ["", "-journal", ".lock"])
def test_parts_of_a_leftover_are_deleted_and_other_files_stay(ending: str, tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    others = {f"other.db.{KEY}.part", "mlflow.db.bak", "mlflow.db.own.part"}
    for name in (f"mlflow.db.{KEY}.part{ending}", *others):
        (tmp_path / name).write_text("")
    connect(uri)
    assert names(tmp_path) == {"mlflow.db", *others}


def test_what_a_process_is_creating_stays(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    part = tmp_path / f"mlflow.db.{KEY}.part"
    part.write_text("")
    with FileLock(f"{part}.lock"):
        connect(uri)
    assert names(tmp_path) == {"mlflow.db", part.name, f"{part.name}.lock"}


def test_a_created_store_leaves_no_other_files(tmp_path: Path) -> None:
    connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert names(tmp_path) == {"mlflow.db"}
