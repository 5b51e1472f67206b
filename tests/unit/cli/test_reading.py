"""Commands that read a store of a few searches, made without training anything."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune.cli.app import app
from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.errors import UserError
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.connection import connect
from imdbtune.tracking.writer import Run, SearchRun
from tests.support import isolate, new_store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


def add_search(folder: Path, name: str, scores: list[float], status: str = "FINISHED") -> str:
    """Write a search with a trial for each score, and one that failed twice."""
    client = connect(f"sqlite:///{folder}/mlflow.db")
    search = SearchRun.open(client, name, "imdbtune", {}, "search")
    for number, score in enumerate(scores):
        trial = Run(client, search.start_trial(f"{number:04d}", TrialParams(), {}))
        trial.log({"best_val_accuracy": score})
        trial.end("FINISHED")
    for attempt in (1, 2):
        Run(client, search.start_trial("9999", TrialParams(), {}, attempt)).end("FAILED", "why")
    search.end(status)
    return search.run_id


@dataclass(frozen=True)
class Store:
    """A folder with a store of two searches, and their run ids by name."""

    folder: Path
    searches: dict[str, str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        new_store(folder)
        first = add_search(folder, "first", [0.7, 0.9, 0.8])
        return Store(folder, {"first": first, "second": add_search(folder, "second", [], "KILLED")})


@pytest.fixture
def searches(store: Store, here: Path) -> dict[str, str]:
    """The run ids of two searches; each test has a copy of their store."""
    shutil.copyfile(store.folder / "mlflow.db", here / "mlflow.db")
    return store.searches


def run(*words: str) -> Any:
    return app([*words], standalone_mode=False)


def test_all_searches_are_listed_the_newest_first(
    searches: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("list", "--json")
    second, first = json.loads(capsys.readouterr().out)
    assert first.pop("started") <= second.pop("started")
    common = {"objective": "val_accuracy"}
    counted = {"trials": 4, "finished": 3, "best": 0.9}
    named = {"name": "first", "run_id": searches["first"], "status": "FINISHED"}
    assert first == {**common, **counted, **named}
    counted = {"trials": 1, "finished": 0, "best": None}
    named = {"name": "second", "run_id": searches["second"], "status": "KILLED"}
    assert second == {**common, **counted, **named}
    run("list")
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "run", "id", "status", "trials", "best", "started"]
    assert rows[0].split()[:5] == ["second", searches["second"], "killed", "1", "-"]
    cells = ["first", searches["first"], "finished", "4", "val_accuracy", "0.9000"]
    assert rows[1].split()[:6] == cells


def test_a_store_without_searches_has_an_empty_list(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_store(here)
    run("list", "--json")
    assert json.loads(capsys.readouterr().out) == []
    run("list")
    assert capsys.readouterr().out == "no search yet; start one with imdbtune search\n"


@pytest.mark.parametrize("words", [["first"], ["--search", "first"], ["--search=first"]])
def test_the_best_of_a_search_named_by_argument_or_flag(
    words: list[str], searches: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("best", "--json", *words)
    assert json.loads(capsys.readouterr().out)["search_id"] == searches["first"]


def test_both_at_once_are_refused(searches: dict[str, str]) -> None:
    with pytest.raises(UserError, match="SEARCH and --search are mutually exclusive"):
        run("best", "first", "--search", "first")


def test_the_argument_overrides_the_variable(
    searches: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMDBTUNE_BEST_SEARCH", "second")
    run("best", "first", "--json")
    assert json.loads(capsys.readouterr().out)["search_id"] == searches["first"]


@pytest.mark.parametrize("flag", ["--export", "--register"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value_is_no_success(flag: str, value: str, searches: dict[str, str]) -> None:
    with pytest.raises(UserError, match=f"{flag} is empty; give a value, or omit it"):
        run("best", "first", flag, value)


def test_an_empty_variable_counts_as_not_given(
    searches: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that ``mlflow run`` can leave parameters out."""
    for name in ("EXPORT", "REGISTER"):
        monkeypatch.setenv(f"IMDBTUNE_BEST_{name}", "")
    run("best", "first", "--search=", "--quiet")
    assert "val_accuracy 0.9000" in capsys.readouterr().out


NONE = "none of 5 trials meets the condition 'best_val_accuracy>0.95'\n"


@pytest.mark.parametrize(
    ("flags", "shown"),
    [([], NONE), (["--quiet"], NONE), (["--json"], "[]\n"), (["--csv"], None)],
)
@pytest.mark.parametrize("required", [False, True])
def test_a_condition_that_no_trial_meets(
    flags: list[str],
    shown: str | None,
    required: bool,
    searches: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["compare", "first", "--where", "best_val_accuracy>0.95", *flags]
    code = run(*words, *(["--require-match"] if required else []))
    out = capsys.readouterr().out
    assert code == (1 if required else None)
    assert out == shown if shown is not None else out.count("\n") == 1


def test_a_match_that_is_required_and_there(
    searches: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "first", "--where", "best_val_accuracy>0.85", "--require-match"]
    assert run(*words) is None
    assert "0.9000" in capsys.readouterr().out


def test_a_required_match_needs_a_condition(searches: dict[str, str]) -> None:
    with pytest.raises(UserError, match="--require-match needs --where"):
        run("compare", "first", "--require-match")


def test_best_prints_only_what_differs_from_the_defaults(
    searches: dict[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = connect(f"sqlite:///{here}/mlflow.db")
    third = SearchRun.open(
        client, "third", "imdbtune", {mlflow_names.VALIDATION_REVIEWS: "800"}, "search"
    )
    trial = Run(client, third.start_trial("0000", TrialParams(units=7, skip=True), {}))
    trial.log({"best_val_accuracy": 0.875, "best_epoch": 2})
    trial.end("FINISHED")
    third.end("FINISHED")
    run("best", "first")
    assert "  all hyperparameters have their defaults" in capsys.readouterr().out
    run("best", "third")
    short = capsys.readouterr().out
    keys = [line.split()[0] for line in short.splitlines() if line.startswith("  ")]
    assert keys == ["validation", "units", "skip", "other", "best"]  # and the best epoch
    assert short.count("87.5") + short.count("0.875") == 1
    run("best", "third", "--verbose")
    long = capsys.readouterr().out
    assert {*PARAMETERS} <= {line.split()[0] for line in long.splitlines()}
    assert "best val accuracy   0.8750" in long
