"""A search with pruned trials, as MLflow, tables, pages and later commands have it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli import tables
from imdbtune.cli.progress import Progress
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import parse_config
from imdbtune.confirm.runs import best_configurations
from imdbtune.report import leaderboard
from imdbtune.report.comparison import compare_searches
from imdbtune.report.findings import failures_data, with_accuracy
from imdbtune.report.page import render
from imdbtune.report.page_data import read_report_data
from imdbtune.report.search_list import summarize_searches
from imdbtune.search.events import TrialEnded
from imdbtune.search.plan import make_plan
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.entities import Search, Trial, as_row
from imdbtune.tracking.model_files import fetch_model
from imdbtune.training.spec import Epoch, OnEpoch, TrialResult, TrialSpec
from tests.support import (
    isolate,
    make_config,
    noting,
    run_search,
    stub_metrics,
    stub_trainer,
    write_tiny_model,
)

# Validation accuracies by units. The second trial is pruned in its third epoch, and is the best one
# by its second; the third one is pruned in its first.
CURVES = {4: (0.5, 0.5, 0.9, 0.9), 5: (0.6, 0.95, 0.7, 0.7), 6: (0.1, 0.2, 0.3, 0.4)}


def scripted(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
    """A trainer that returns the curves, and has a tiny model."""
    write_tiny_model(spec)
    history, pruned_after = [], 0
    for number, value in enumerate(CURVES[spec.params.units], start=1):
        history.append({**stub_metrics(spec, number), "val_accuracy": value})
        if on_epoch(0, history[-1]):
            pruned_after = number
            break
    best = max(history, key=lambda epoch: epoch["val_accuracy"])
    return TrialResult(
        history=tuple(history),
        best_epoch=int(best["epoch"]),
        scores=(best["val_accuracy"],),
        seconds=0.5,
        parameter_count=10,
        model=spec.folder / "model.keras",
        pruned_after=pruned_after,
    )


@dataclass
class Done:
    folder: Path
    client: Any
    search: Search
    trials: list[Trial]

    def of(self, units: int) -> Trial:
        (found,) = [trial for trial in self.trials if trial.params.units == units]
        return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    with pytest.MonkeyPatch.context() as patch:
        folder = isolate(patch, tmp_path_factory.mktemp("pruned"))
        config = make_config(
            folder,
            space={"rnn": "lstm", "units": list(CURVES)},
            tuner={"prune": "asha"},
            training={"epochs": 4},
            tracking={"keep_models": "best"},
        )
        client, search = run_search(config, folder, trainer=scripted)
        yield Done(folder, client, search, reader.read_trials(client, search))


def test_mlflow_has_it_as_killed_with_the_reason(done: Done) -> None:
    runs = {units: done.client.get_run(done.of(units).run_id) for units in CURVES}
    assert {units: run.info.status for units, run in runs.items()} == {
        4: "FINISHED",
        5: "KILLED",
        6: "KILLED",
    }
    reasons = {units: run.data.tags.get(mlflow_names.REASON) for units, run in runs.items()}
    assert reasons == {4: None, 5: "pruned after epoch 3", 6: "pruned after epoch 1"}
    assert runs[5].data.tags[mlflow_names.PRUNED] == "3"
    assert runs[5].data.metrics["best_val_accuracy"] == 0.95
    assert runs[5].data.metrics["best_epoch"] == 2
    assert runs[5].data.metrics["epochs_run"] == 3


def test_it_wins_by_its_best_epoch(done: Done) -> None:
    assert [trial.params.units for trial in done.trials] == [5, 4, 6]
    assert all(trial.has_result for trial in done.trials)
    assert reader.read_best(done.client, done.search) == done.of(5)
    assert done.search.tags["imdbtune.best_run_id"] == done.of(5).run_id
    ranked = best_configurations(done.search, done.trials, 2)
    assert ranked == [done.of(5), done.of(4)]


def test_its_model_is_kept_like_any_other(done: Done, tmp_path: Path) -> None:
    assert [trial.model_id is not None for trial in done.trials] == [True, False, False]
    assert fetch_model(done.client, done.of(5), tmp_path).exists()


def test_tables_say_after_which_epoch(done: Done) -> None:
    lines = tables.leaderboard(done.search, done.trials, ["units"]).splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert lines[0].endswith("  pruned after epoch 3")
    assert lines[1].endswith("  finished")
    rows = [as_row(trial) for trial in done.trials]
    assert [row["status"] for row in rows] == ["PRUNED", "FINISHED", "PRUNED"]


def test_it_is_compared_with_the_trials_of_other_searches(done: Done) -> None:
    both = [(done.search, done.trials), (done.search, done.trials)]
    rows = compare_searches(both).rows
    assert [row["units"] for row in rows] == [5, 5, 4, 4, 6, 6]
    found = compare_searches(both[:1], where="status=pruned").rows
    assert [row["units"] for row in found] == [5, 6]


def test_the_search_counts_it_as_pruned(done: Done) -> None:
    metrics = done.search.metrics
    assert (metrics["trials_finished"], metrics["trials_pruned"]) == (3, 2)
    assert metrics["trials_failed"] == 0
    page = leaderboard.markdown(done.search, done.trials, ["units"])
    assert "Trials: 1 finished, 2 pruned." in page
    (summary,) = summarize_searches([done.search], {done.search.run_id: done.trials})
    assert (summary.trials, summary.finished, summary.best) == (3, 3, 0.95)


def test_the_report_says_how_many_were_pruned(done: Done) -> None:
    assert len(with_accuracy(done.trials)) == 3
    assert failures_data(done.trials) == ()
    page = render(read_report_data(done.client, done.search, done.trials), {})
    assert "<b>3</b><span>trials finished, 2 of them (67 %) pruned after some epochs</span>" in page


def test_a_resumed_search_does_not_run_it_again(done: Done) -> None:
    def never(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        raise AssertionError

    where = {"cache": done.folder / "cache", "folder": done.folder / "runs", "trainer": never}
    uri = str(done.client.tracking_uri)
    found = api.resume(context=api.Context(uri=uri, workers=0, **where))
    assert reader.read_trials(done.client, found) == done.trials


def test_progress_says_that_a_trial_was_pruned() -> None:
    out = io.StringIO()
    params = TrialParams()
    Progress(out, total=3)(TrialEnded("0001", params, "r", 0.7512, "pruned after epoch 2"))
    assert out.getvalue().startswith(f"[2/3] {params.label} pruned after epoch 2: 0.7512; best ")


def test_an_interrupted_trial_is_not_a_pruned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run again, with the decision of the first time; the pruned one is not."""
    isolate(monkeypatch, tmp_path)

    def interrupted(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        def report(execution: int, epoch: Epoch) -> bool | None:
            prune = on_epoch(execution, epoch)
            if spec.folder.name == "0003":
                raise KeyboardInterrupt
            return prune

        return stub_trainer(spec, report)

    space = {"rnn": ["lstm", "simple_rnn"], "units": [4, 5]}
    config = make_config(tmp_path, space=space, tuner={"prune": "asha"})
    with pytest.raises(KeyboardInterrupt):
        run_search(config, tmp_path, trainer=interrupted)
    where: dict[str, Any] = {"cache": tmp_path / "cache", "folder": tmp_path / "runs"}
    context = api.Context(uri=config.tracking.uri, workers=0, trainer=stub_trainer, **where)
    client = context.connect()
    before = reader.read_trials(client, reader.find_search(client))
    assert Counter((t.state, t.reason) for t in before) == {
        ("FINISHED", ""): 2,
        ("PRUNED", "pruned after epoch 1"): 1,
        ("KILLED", "interrupted"): 1,
    }
    killed = before[-1]
    assert (killed.trial_id, killed.has_result) == ("0003", False)
    after = reader.read_trials(client, api.resume(context=context))
    assert all(trial in after for trial in before)
    (again,) = [trial for trial in after if trial not in before]
    assert (again.trial_id, again.state, again.attempt) == ("0003", "PRUNED", 1)


def test_a_plan_says_what_is_pruned_and_when_nothing_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from imdbtune.cli.app import app

    isolate(monkeypatch, tmp_path)
    words = ["search", "demo", "--data", "demo", "--prune", "median", "--dry-run"]
    app([*words, "--epochs", "4"], standalone_mode=False)
    told = capsys.readouterr().out
    assert "# pruner: median, ends a trial whose best epoch is below the median" in told
    assert "# note" not in told
    app([*words, "--epochs", "1"], standalone_mode=False)
    note = "prune = median has no effect on trials of one epoch"
    assert f"# note: {note}" in capsys.readouterr().out
    notices: list[str] = []
    one_epoch = {"space": {"units": 4}, "data": {"source": "demo"}, "training": {"epochs": 1}}
    config = parse_config({**one_epoch, "tuner": {"prune": "median"}})
    make_plan(config, api.Context(listener=noting(notices)))
    assert [text.startswith(note) for text in notices] == [True]
