"""A search for the smallest value of a metric of the user's own, with a stub for the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imdbtune import api
from imdbtune.config.schema import parse_config
from imdbtune.errors import UserError
from imdbtune.report.page import render
from imdbtune.report.page_data import read_report_data
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import Epoch, OnEpoch, TrialResult, TrialSpec
from tests.support import make_config, prepare, stub_trainer, write_tiny_model

SOURCE = (
    "def cost(labels, probabilities):\n    return float((probabilities - labels).mean() ** 2)\n"
)


def with_cost(epoch: Epoch) -> Epoch:
    return {**epoch, "cost": 0.5, "val_cost": 1.0 - epoch["val_accuracy"]}


def trainer(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    """The stub, whose cost is the share of errors."""
    write_tiny_model(spec)
    result = stub_trainer(spec, lambda number, epoch: on_epoch(number, with_cost(epoch)))
    history = tuple(with_cost(epoch) for epoch in result.history)
    best = min(history, key=lambda epoch: epoch["val_cost"])
    noise = np.random.default_rng(spec.settings.seed).normal(0, 0.05, 50)
    return replace(
        result,
        history=history,
        best_epoch=int(best["epoch"]),
        scores=(best["val_cost"],),
        draws=best["val_cost"] + noise - noise.mean(),
        objective=spec.settings.objective,
    )


def test_a_search_follows_a_metric_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ranking, pages, confirmation and resuming; the configuration is that of a file."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    table = make_config(tmp_path, space={"units": [4, 16, 8]}, training={"epochs": 3}).as_dict()
    table["training"]["metrics"] = ["mine.py:cost:min"]
    table["tuner"] |= {"objective": "val_cost", "kind": "grid"}
    config = parse_config(table)
    where = {"workers": 0, "cache": tmp_path / "cache", "folder": tmp_path / "runs"}
    context = api.Context(trainer=trainer, uri=config.tracking.uri, **where)  # type: ignore[arg-type]

    search = api.search(config, context)
    client = connect(config.tracking.uri)
    trials = reader.read_trials(client, search)
    assert [trial.params.units for trial in trials] == [16, 8, 4]
    assert not search.larger_is_better
    assert trials[0].score == pytest.approx(1 - 0.636)
    assert trials[0].metrics["best_val_cost_error"] == pytest.approx(0.05 / 50**0.5, rel=0.3)
    assert [m.name for m in trials[0].own_metrics] == ["cost"]
    assert reader.read_text(client, search.run_id, "metrics/mine.py") == SOURCE
    files = {file.path for file in client.list_artifacts(trials[0].run_id)}
    assert {"cost.png", "validation_draws.npy"} <= files
    page = render(read_report_data(client, search, trials), {})
    assert "validation accuracy" in page  # a cost is no share, which statistics are of

    confirmed = api.confirm(search.run_id, top=2, seeds=3, context=context)
    assert (confirmed.metric, confirmed.winner.name) == ("cost", trials[0].name)
    assert confirmed.winner.mean == pytest.approx(1 - 0.636)
    assert confirmed.rows[1].difference < 0  # the first one costs less
    kept = reader.read_run(client, trials[0].run_id)
    assert kept.metrics["confirmed_val_cost"] == confirmed.winner.mean

    (tmp_path / "mine.py").write_text(SOURCE.replace("** 2", "** 4"))
    with pytest.raises(UserError, match=r"another mine.py:cost \(line 2 was"):
        api.resume(search.run_id, context=context)
