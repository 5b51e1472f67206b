"""A confirmed search is extended; its trials are deleted, restored and discarded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.confirm.runs import best_runs
from imdbtune.report.page import render
from imdbtune.report.page_data import read_report_data
from imdbtune.tracking import mlflow_names, reader, writer
from imdbtune.tracking.connection import connect
from tests.support import draw_nothing, isolate, make_config, prepare
from tests.unit.confirm.test_runs import StubTrainer

SPACE = {"rnn": ["simple_rnn", "lstm", "gru"], "units": [4, 8]}


def agreed(store: Any) -> tuple[str, str]:
    """The configuration and its accuracy that everything names as the best."""
    found, best = api.best("tiny")
    compared = api.compare(["tiny"])
    page = reader.find_search(store, "tiny").tags
    confirmed = api.read_confirmation(found)
    assert page[mlflow_names.BEST_RUN_ID] == best.run_id
    assert best_runs(store, found, 1)[0].run_id == best.run_id
    trials = reader.read_trials(store, found)
    report = render(read_report_data(store, found, trials), {})
    if confirmed is None:
        assert compared.confirmed == {}
        figure = f"{best.score:.4f}"
        name = best.name
    else:
        assert confirmed == compared.confirmed[found.run_id]
        assert confirmed.winner.run_ids[0] == best.run_id
        name, figure = confirmed.winner.name, f"{confirmed.winner.mean * 100:.1f} %"
    assert page[mlflow_names.BEST] == name
    assert name in report
    answer, *_ = page[mlflow_names.NOTE].split("Data:")
    assert f"[{name}]" in answer
    assert figure in answer
    return name, figure


def test_all_name_the_same_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    monkeypatch.setattr(writer.TrialRun, "log_model", lambda *arguments: None)
    prepare(tmp_path)
    isolate(monkeypatch, tmp_path)
    trainer = StubTrainer()
    context = api.Context(workers=0, trainer=trainer)
    config = make_config(tmp_path, space=SPACE, tuner={"kind": "grid", "max_trials": 4})
    api.search(config, context)
    confirmed = api.confirm("tiny", context, top=3, seeds=3)
    store = connect(config.tracking.uri)
    first = agreed(store)
    assert first[0] == confirmed.winner.name
    api.resume("tiny", {"tuner.max_trials": 6}, context)
    assert agreed(store) == first
    original = confirmed.winner.trial_run_id
    store.delete_run(original)
    second = agreed(store)
    assert second != first
    store.restore_run(original)
    assert agreed(store) == first
    api.discard(original)
    assert agreed(store) == second
    again = api.confirm("tiny", context, top=3, seeds=3)
    assert original not in {row.trial_run_id for row in again.rows}
    third = agreed(store)
    api.discard(original, undo=True)
    assert agreed(store) == third  # it is confirmed no more
    for row in again.rows:
        api.discard(row.trial_run_id)
    assert agreed(store)[0] not in {row.name for row in again.rows}
