"""A search with two objectives and a requirement on its results, as users see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.errors import UserError
from imdbtune.report.page import render
from imdbtune.report.page_data import read_report_data
from imdbtune.search.journal import Journal
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import connect
from tests.support import isolate, make_config, run_search, stub_trainer

SPACE = {"rnn": ["simple_rnn", "lstm"], "units": [4, 8, 16]}
# Of the stub's accuracies, all of an lstm are above it; more units are better, and cost more.
REQUIRE = "units>4 and val_accuracy>=0.6"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search."""
    folder = tmp_path_factory.mktemp("front")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        tuner = {"kind": "tpe", "objective": "val_accuracy,parameter_count", "require": REQUIRE}
        run_search(make_config(folder, space=SPACE, tuner=tuner), folder)
    return folder


@pytest.fixture
def folder(done: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, done)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["imdbtune", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_the_front_is_marked_and_missed_trials_are_named(
    folder: Path, call: Callable[..., str]
) -> None:
    rows = json.loads(call("compare", "--json"))
    found = {(row["rnn"], row["units"]): (row["front"], row["status"]) for row in rows}
    assert found == {
        ("lstm", 16): (True, "FINISHED"),
        ("lstm", 8): (True, "FINISHED"),
        ("simple_rnn", 16): (False, "MISSED"),
        ("simple_rnn", 8): (False, "MISSED"),
    }
    text = call("compare")
    assert text.count(f"misses {REQUIRE}") == 2
    assert "best: lstm-d1-u16-L500, the best of 2 trials on the front of val_accuracy and " in text
    chosen = call("compare", "--where", "front=true", "--columns", "units").splitlines()
    assert [line.split() for line in chosen[2:4]] == [["1", "16"], ["2", "8"]]


def test_best_says_why(folder: Path, call: Callable[..., str]) -> None:
    assert "the best of 2 trials on the front of val_accuracy and parameter_count" in call("best")
    facts = json.loads(call("best", "--json"))
    assert (facts["units"], len(facts["front"])) == (16, 2)
    assert facts["chosen"].startswith("the best of 2 trials")


def test_mlflow_has_the_front(folder: Path) -> None:
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    found = reader.find_search(client)
    assert found.objectives == ("val_accuracy", "parameter_count")
    assert found.tags[mlflow_names.OBJECTIVE] == "val_accuracy"
    note = found.tags[mlflow_names.NOTE]
    assert "val\\_accuracy | parameter\\_count | front" in note or "| front |" in note
    assert note.count("| yes |") == 2
    assert "2 missed the requirement" in note
    table = json.loads(reader.read_text(client, found.run_id, "leaderboard.json"))
    marks = [row[table["columns"].index("front")] for row in table["data"]]
    assert marks == [True, True, False, False]
    trials = reader.read_trials(client, found)
    assert mlflow_names.OBJECTIVES not in trials[0].tags
    page = render(read_report_data(client, found, trials), {})
    assert "On the Pareto front" in page
    assert "missed the requirement" in page


def test_the_journal_has_all_results(folder: Path) -> None:
    (path,) = folder.glob("runs/*/journal.jsonl")
    ended = [event["measured"] for event in Journal(path).read() if event["event"] == "ended"]
    assert {e["parameter_count"] for e in ended} == {800, 1600}
    names = {"val_accuracy", "val_loss", "parameter_count", "train_seconds"}
    assert {frozenset(each) for each in ended} == {frozenset(names)}


def test_a_search_with_one_front_learns_from_another(folder: Path) -> None:
    tuner: dict[str, Any] = {"kind": "tpe", "objective": "val_accuracy,parameter_count"}
    config = make_config(
        folder, name="wider", space={**SPACE, "rnn": "lstm"}, tuner={**tuner, "learn_from": "tiny"}
    )
    api.search(config, api.Context(workers=0, trainer=stub_trainer, folder=folder / "wider"))
    (path,) = folder.glob("wider/*/journal.jsonl")
    (lent,) = (event["trials"] for event in Journal(path).read() if event["event"] == "borrowed")
    assert {each["measured"]["parameter_count"] for each in lent} == {800.0, 1600.0}
    api.compare(["wider"])


def test_where_no_trial_meets_the_requirement_there_is_no_best(
    folder: Path, call: Callable[..., str]
) -> None:
    require = "train_seconds<=0.1"
    config = make_config(
        folder, name="slow", space=SPACE, tuner={"kind": "random", "require": require}
    )
    run_search(config, folder)
    with pytest.raises(UserError, match="none of the 6 finished trials of search 'slow' meets --"):
        api.best("slow")
    assert call("compare", "slow").count(f"misses {require}") == 6
