"""Each check of `imdbtune doctor`, passing and failing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import sqlite3
import sys
from pathlib import Path

import pytest

from imdbtune import doctor
from imdbtune.cli.app import app
from imdbtune.config.extensions import FORMATS
from imdbtune.data.imdb import imdb_folder
from imdbtune.doctor import OK, PROBLEM, WARNING, Check
from tests.support import isolate, new_store


def test_the_packages_that_are_here_fit() -> None:
    required = [f"numpy=={importlib.metadata.version('numpy')}", "none-such; extra == 'dev'"]
    assert doctor.packages(required).state == OK


@pytest.mark.parametrize(
    ("required", "says"),
    [("numpy>=999", ">=999"), ("numpy<1", "<1"), ("none-such-package>=1", "is missing")],
)
def test_packages_that_are_missing_or_do_not_fit_are_named(required: str, says: str) -> None:
    check = doctor.packages([required])
    assert (check.state, bool(check.remedy)) == (PROBLEM, True)
    assert says in check.found


def test_versions_that_were_not_tested_together_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "constraints.txt").write_text("numpy==0.1\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    check = doctor.packages(["numpy"])
    assert check.state == WARNING
    assert "(0.1)" in check.found


def test_formats_without_their_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(FORMATS["onnx"], installed_by=("none_such_package",))
    monkeypatch.setattr("imdbtune.export.onnx_format.ONNX", absent)
    check = doctor.formats()
    assert check.state == OK
    assert check.found.startswith("keras, savedmodel, mlflow, numpy")
    assert "onnx" in check.found.partition("not installed: ")[2]


def test_extensions_that_cannot_be_loaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.extensions() == Check("extensions", OK, "none from other packages")
    added = {"good": "math:pi", "broken": "no_such_module:x"}
    monkeypatch.setattr(FORMATS, "added", added)
    check = doctor.extensions()
    assert (check.state, bool(check.remedy)) == (PROBLEM, True)
    assert check.found == "cannot be loaded: format broken"


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 1.5), ("max 100000", None), ("", None), ("a b", None)]
)
def test_a_limit_of_a_container_is_read(text: str, cores: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert doctor._quota(tmp_path / "cpu.max") == cores


def test_a_library_that_hangs_or_breaks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no libfoo')")
    check = doctor.tensorflow()
    assert check.state == PROBLEM
    assert "no libfoo" in check.found
    (tmp_path / "tensorflow.py").write_text("import time; time.sleep(60)")
    assert doctor.tensorflow(timeout_s=0.5).state == WARNING


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.disk("cache", tmp_path / "not" / "there").state == OK
    assert not (tmp_path / "not").exists()
    assert doctor.disk("cache", tmp_path / "file").state == PROBLEM


def test_a_store_is_checked_and_left_unchanged(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        before = list(database.iterdump())
    assert doctor.store(uri).state == OK
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert list(database.iterdump()) == before
    database.close()


def test_a_missing_store_will_be_created(tmp_path: Path) -> None:
    check = doctor.store(f"sqlite:///{tmp_path}/new.db")
    assert check.state == OK
    assert "will be created" in check.found
    assert list(tmp_path.iterdir()) == []


def test_another_sqlite_file_is_a_problem_and_gets_no_tables(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "films.db") as database:
        database.execute("CREATE TABLE films (title TEXT)")
    before = (tmp_path / "films.db").read_bytes()
    assert doctor.store(f"sqlite:///{tmp_path}/films.db").state == PROBLEM
    assert (tmp_path / "films.db").read_bytes() == before
    database.close()


def test_a_locked_store_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = new_store(tmp_path)
    monkeypatch.setattr(doctor, "LOCK_TIMEOUT_S", 0.1)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("BEGIN IMMEDIATE")
        check = doctor.store(uri)
    database.close()
    assert check.state == PROBLEM
    assert "locked" in check.found


def test_what_is_no_store_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("these are no tables")
    assert doctor.store(f"sqlite:///{tmp_path}/text.db").state == PROBLEM
    assert doctor.store("nonsense").state == PROBLEM


def test_damaged_reviews_are_a_problem(tmp_path: Path) -> None:
    imdb_folder(tmp_path).mkdir(parents=True)
    assert doctor.reviews(tmp_path).state == PROBLEM


def test_missing_programs_are_reported() -> None:
    assert doctor.program("git", "x", find=lambda name: None).state == WARNING
    assert "--env-manager local" in doctor.environments(find=lambda name: None).found
    assert doctor.environments(find=lambda name: name).found == "conda and uv found"


@pytest.mark.parametrize(
    "content",
    [
        *("entry_points: [", "[" * 100_000, "entry_points: 3", "- a", "x", "entry_points: [1]"),
        *("entry_points: {1: 2}", "\0", '!!python/object/apply:os.system ["true"]', " " * 2**21),
    ],
    ids=lambda content: ascii(content)[:30],
)
def test_a_project_file_that_makes_no_sense_is_a_problem(content: str, tmp_path: Path) -> None:
    (tmp_path / "MLproject").write_text(content)
    found = doctor.project(tmp_path)
    assert (found.state, len(found.found) < 300) == (PROBLEM, True)


def test_a_name_that_is_too_long_is_a_problem() -> None:
    found = doctor.disk("cache", Path("x" * 5000))
    assert (found.state, "File name too long" in found.found) == (PROBLEM, True)
    assert len(found.found) < 400


def test_no_project_file_is_none_and_ours_is_fine(tmp_path: Path) -> None:
    assert doctor.project(tmp_path).state == OK
    assert doctor.project(Path(__file__).resolve().parents[2]).found.startswith("entry points")


@pytest.mark.parametrize(("state", "code"), [(OK, 0), (WARNING, 0), (PROBLEM, 1)])
def test_the_exit_code_says_whether_it_can_be_used(
    state: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    isolate(monkeypatch, tmp_path)
    checks = [Check("a", OK, "fine"), Check("b", state, "found\x1b[31m", "do it.")]
    monkeypatch.setattr("imdbtune.api.doctor", lambda **where: iter(checks))
    assert (app(["doctor"], standalone_mode=False) or 0) == code
    assert "b: found\\x1b[31m; do it." in capsys.readouterr().out
    assert (app(["doctor", "--json"], standalone_mode=False) or 0) == code
    told = json.loads(capsys.readouterr().out)
    assert told["usable"] is (code == 0)
    assert [check["state"] for check in told["checks"]] == [OK, state]


def test_this_python_is_one_of_those_that_are_meant() -> None:
    assert (doctor.python().state == OK) is ((3, 11) <= sys.version_info[:2] <= (3, 13))
