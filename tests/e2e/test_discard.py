"""Trials that are discarded, deleted or restored after the page of their search was written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.confirm.runs import best_configurations, best_runs
from imdbtune.report import page_data
from imdbtune.search.journal import Journal
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import connect
from tests.support import (
    Stub,
    draw_nothing,
    isolate,
    make_config,
    prepare,
    stub_trainer,
    write_tiny_model,
)

UNITS = [4, 8, 16]  # the stub's best has the most


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw_nothing(monkeypatch)
    prepare(tmp_path)
    isolate(monkeypatch, tmp_path)
    config = make_config(tmp_path, space={"units": UNITS})
    api.search(config, api.Context(workers=0, trainer=stub_trainer))
    return tmp_path


def client() -> Any:
    return connect(f"sqlite:///{Path.cwd() / 'mlflow.db'}")


def search() -> Any:
    return reader.find_search(client(), "tiny")


def run_ids() -> dict[int, str]:
    return {t.params.units: t.run_id for t in reader.read_trials(client(), search())}


def check_winner(units: int, discarded: int = 0) -> None:
    """All that name a best trial name this one; only the first of them reads a stale page."""
    found, best = api.best()
    compared = api.compare()
    statuses = [row["status"] for row in compared.rows]
    assert statuses.count("DISCARDED") == discarded
    assert (best.params.units, compared.rows[0]["units"]) == (units, units)
    (finished, *_) = best_configurations(found, reader.read_trials(client(), found), 9)
    assert finished.run_id == best.run_id == best_runs(client(), found, 1)[0].run_id
    data = page_data.read_report_data(client(), found, reader.read_trials(client(), found))
    assert data.finished[0].run_id == best.run_id
    tags = search().tags
    assert tags[mlflow_names.BEST_RUN_ID] == best.run_id
    assert tags[mlflow_names.BEST] == best.name
    answer, *_ = tags[mlflow_names.NOTE].split("Data:")
    assert f"[{best.name}]" in answer
    assert f"{best.score:.4f}" in answer
    (listed,) = api.list_searches()
    assert listed.best == best.score


def test_the_page_follows_what_happens_in_mlflow(here: Path) -> None:
    check_winner(16)
    best = run_ids()[16]
    client().delete_run(best)
    check_winner(8)
    client().restore_run(best)
    check_winner(16)
    client().set_tag(best, mlflow_names.DISCARDED, "leaked")
    check_winner(8, discarded=1)
    client().set_tag(best, mlflow_names.DISCARDED, "false")
    check_winner(16)
    client().delete_run(best)
    api.compare()
    assert search().tags[mlflow_names.BEST_RUN_ID] == run_ids()[8]
    for run_id in run_ids().values():
        client().delete_run(run_id)
    api.compare()
    assert mlflow_names.BEST_RUN_ID not in search().tags
    assert "none yet" in search().tags[mlflow_names.NOTE]


def run(capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch, *words: str) -> Any:
    patch.setattr(sys, "argv", ["imdbtune", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def test_a_discarded_trial_is_not_chosen(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (journal,) = here.glob(".imdbtune/*/journal.jsonl")
    before = Journal(journal).read()
    code, out, _ = run(capsys, monkeypatch, "discard", "2", "--reason", "labels leaked")
    runs = run_ids()
    best = reader.read_run(client(), runs[8])
    trial = reader.read_run(client(), runs[16])
    assert (code, trial.trial_id) == (0, "0002")
    assert out == (
        f"{trial.name} (run {trial.run_id}): discarded\nbest of search tiny: {best.name}\n"
    )
    assert "1 discarded" in search().tags[mlflow_names.NOTE]
    check_winner(8, discarded=1)
    _, out, _ = run(capsys, monkeypatch, "compare")
    assert out.splitlines()[4].startswith("-  ")
    assert out.splitlines()[4].endswith("discarded: labels leaked")
    assert Journal(journal).read() == before
    code, out, _ = run(capsys, monkeypatch, "discard", trial.run_id, "--undo", "--json")
    assert json.loads(out) == {
        "search_id": search().run_id,
        "run_id": trial.run_id,
        "best_run_id": trial.run_id,
        "discarded": False,
    }
    check_winner(16)


def test_a_resumed_search_saves_the_model_of_the_best_that_may_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    prepare(tmp_path)
    isolate(monkeypatch, tmp_path)
    config = make_config(
        tmp_path,
        space={"units": {"min": 4, "max": 40}},
        tuner={"kind": "random", "max_trials": 2},
        tracking={"keep_models": "best"},
    )
    context = api.Context(workers=0, trainer=Stub(write_tiny_model))
    api.search(config, context)
    for trial in reader.read_trials(client(), search()):
        api.discard(trial.run_id)
    api.resume("tiny", {"tuner.max_trials": 4}, context)
    _, best = api.best()
    assert not best.is_discarded
    assert best.model_id is not None
