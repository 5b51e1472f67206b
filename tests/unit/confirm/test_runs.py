"""The best configurations of a search are trained again; `best` uses the result."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune import api
from imdbtune.cli.confirm import table
from imdbtune.cli.tables import details
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.confirm import results
from imdbtune.confirm.description import describe
from imdbtune.confirm.entities import Confirmation
from imdbtune.confirm.runs import (
    SEED_OFFSET,
    best_runs,
    configurations_to_confirm,
)
from imdbtune.errors import SearchAborted, TrialFailed, UserError
from imdbtune.models.metrics.metric import CORRECTNESS_FILE
from imdbtune.report.page import render
from imdbtune.report.page_data import read_report_data
from imdbtune.tracking import entities, mlflow_names, reader, writer
from imdbtune.tracking.connection import connect
from imdbtune.tracking.ranking import find_front
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.support import (
    draw_nothing,
    isolate,
    make_config,
    run_search,
    stub_trainer,
    write_tiny_model,
)

REVIEWS = 400
LOG_MODEL = writer.TrialRun.log_model
RATES = {"gru": 0.9, "lstm": 0.895, "simple_rnn": 0.6}


@dataclass
class StubTrainer:
    """Stub trainer with predictions of 400 reviews that depend on the seed; can fail or stop."""

    specs: list[TrialSpec] = field(default_factory=list)
    models: bool = False
    fails: bool = False
    stops_after: int = 10**6

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        if len(self.specs) >= self.stops_after:
            raise KeyboardInterrupt
        if self.fails:
            raise TrialFailed("the loss became nan in epoch 1.")
        self.specs.append(spec)
        if self.models:
            write_tiny_model(spec)
        rate = RATES[spec.params.rnn] + spec.params.units / 10_000
        rng = np.random.default_rng([spec.settings.seed, spec.params.units, len(spec.params.rnn)])
        return replace(stub_trainer(spec, on_epoch), right=rng.random((1, REVIEWS)) < rate)


@dataclass
class Done:
    client: Any
    search: entities.Search
    uri: str
    folder: Path

    def confirm(self, trainer: StubTrainer, **arguments: Any) -> Confirmation:
        search_ref = arguments.pop("search_ref", None)
        context = api.Context(
            uri=self.uri,
            cache=self.folder / "cache",
            folder=self.folder / "runs",
            trainer=trainer,
            workers=0,
        )
        return api.confirm(search_ref, context, **arguments)

    def confirming(self) -> list[entities.Trial]:
        run = reader.find_confirmation(self.client, self.search)
        return reader.read_trials(self.client, run) if run else []


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search of six trials; each test has a copy of its store."""
    with pytest.MonkeyPatch.context() as patch:
        folder = isolate(patch, tmp_path_factory.mktemp("searched"))
        space = {"rnn": ["simple_rnn", "lstm", "gru"], "units": [4, 8]}
        config = make_config(folder, space=space, tuner={"seed": 7}, training={"epochs": 3})
        run_search(config, folder)
        return folder


@pytest.fixture
def done(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Done:
    folder = isolate(monkeypatch, tmp_path)
    shutil.copyfile(searched / "mlflow.db", folder / "mlflow.db")
    draw_nothing(monkeypatch)
    # Logging a model takes a second; one test does it.
    monkeypatch.setattr(writer.TrialRun, "log_model", lambda *arguments: None)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = connect(uri)
    return Done(client, reader.find_search(client), uri, folder)


def test_the_leading_configurations_are_trained_as_in_the_search_with_new_seeds(
    done: Done,
) -> None:
    trainer = StubTrainer()
    made = done.confirm(trainer, top=3, seeds=2)
    settings = [spec.settings for spec in trainer.specs]
    settings = [spec.settings for spec in trainer.specs]
    settings = [spec.settings for spec in trainer.specs]
    leading = reader.read_trials(done.client, done.search)[:3]
    assert {spec.params for spec in trainer.specs} == {trial.params for trial in leading}
    assert sorted({spec.settings.seed for spec in trainer.specs}) == [
        7 + SEED_OFFSET,
        8 + SEED_OFFSET,
    ]
    assert {(s.epochs, s.patience, s.executions) for s in settings} == {(2, 0, 1)}
    assert {(s.schedule_epochs, s.keep_best) for s in settings} == {(3, False)}  # 2 was best of 3
    assert {row.trial_run_id for row in made.rows} == {trial.run_id for trial in leading}
    assert [row.mean for row in made.rows] == sorted((r.mean for r in made.rows), reverse=True)
    assert made.reviews == REVIEWS
    assert made.seeds == 2


def test_trainings_are_runs_of_their_own_and_no_trials_of_the_search(done: Done) -> None:
    before = {trial.run_id for trial in reader.read_trials(done.client, done.search)}
    made = done.confirm(StubTrainer(), top=2, seeds=2)
    assert {t.run_id for t in reader.read_trials(done.client, done.search)} == before
    runs = done.confirming()
    assert [run.status for run in runs] == ["FINISHED"] * 4
    assert {run.tags["mlflow.parentRunId"] for run in runs} == {made.run_id}
    assert {run.tags[mlflow_names.CONFIRMS] for run in runs} == {r.trial_run_id for r in made.rows}
    assert reader.find_search(done.client).run_id == done.search.run_id
    assert not (done.folder / "runs" / made.run_id).exists()


def test_each_training_keeps_its_model(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.TrialRun, "log_model", LOG_MODEL)
    done.confirm(StubTrainer(models=True), top=1, seeds=1)
    assert [bool(run.model_id) for run in done.confirming()] == [True]


def test_best_returns_a_training_of_the_recommended_configuration(done: Done) -> None:
    assert api.read_confirmation(done.search, uri=done.uri) is None
    made = done.confirm(StubTrainer(), top=4, seeds=3)
    search, trial = api.best(uri=done.uri)
    assert api.read_confirmation(search, uri=done.uri) == made
    assert trial.run_id == made.winner.run_ids[0]
    assert trial.tags[mlflow_names.CONFIRMS] == made.recommended
    text = details(trial, search, confirmed=made)
    assert "the mean of 3 seeds" in text
    assert "best val accuracy" in text  # of this training
    assert "not confirmed" not in text
    marked = [line for line in table(made).splitlines() if "*" in line]
    assert len(marked) == 1
    assert made.winner.name in marked[0]


def test_the_best_models_are_the_confirmed_ones_and_then_the_others(done: Done) -> None:
    trials = reader.read_trials(done.client, done.search)
    assert best_runs(done.client, done.search, 3) == trials[:3]
    made = done.confirm(StubTrainer(), top=2, seeds=2)
    search = reader.find_search(done.client, done.search.run_id)
    chosen = [trial.run_id for trial in best_runs(done.client, search, 3)]
    assert chosen == [*(row.run_ids[0] for row in made.rows), trials[2].run_id]
    assert len(best_runs(done.client, search, 99)) == len(trials)


def test_called_again_it_trains_only_what_is_missing(done: Done) -> None:
    done.confirm(StubTrainer(), top=2, seeds=2)
    nothing, more = StubTrainer(), StubTrainer()
    done.confirm(nothing, top=2, seeds=2)
    assert not nothing.specs
    made = done.confirm(more, top=3, seeds=3)
    assert len(more.specs) == 2 + 3
    assert len({run.tags["mlflow.parentRunId"] for run in done.confirming()}) == 1
    assert [len(row.run_ids) for row in made.rows] == [3, 3, 3]


def test_until_it_is_settled_seeds_are_added_only_where_they_matter(done: Done) -> None:
    """Of 400 reviews: 90 and 89.5 % are close, 60 % is not."""
    trainer, again = StubTrainer(), StubTrainer()
    made = done.confirm(trainer, top=6, seeds=6, until_settled=True, margin=0.02)
    seeds = {row.name.split("-")[0]: len(row.run_ids) for row in made.rows}
    assert seeds["simple_rnn"] == 3
    assert max(seeds["gru"], seeds["lstm"]) > 3
    assert made.rule.level == pytest.approx(0.05 / 3)  # after 3, 5 and 6 seeds
    assert made.undecided or made.is_shown
    done.confirm(again, top=6, seeds=6, until_settled=True, margin=0.02)
    assert not again.specs


def test_of_several_objectives_the_front_is_confirmed_and_the_second_one_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cells are as good here, so those of four units are on the front of their size."""
    folder = isolate(monkeypatch, tmp_path)
    space = {"rnn": ["simple_rnn", "lstm"], "units": [4, 8]}
    tuner = {"seed": 7, "objective": "val_accuracy,parameter_count"}
    config = make_config(folder, space=space, tuner=tuner, training={"epochs": 3})
    client, search = run_search(config, folder)
    trials = reader.read_trials(client, search)
    front = find_front(search, trials)
    assert front is not None
    first = configurations_to_confirm(search, trials, len(front.trials))
    assert {trial.run_id for trial in first} == {trial.run_id for trial in front.trials}
    draw_nothing(monkeypatch)
    monkeypatch.setattr(writer.TrialRun, "log_model", lambda *arguments: None)
    monkeypatch.setitem(RATES, "lstm", 0.9)
    monkeypatch.setitem(RATES, "simple_rnn", 0.9)
    done = Done(client, search, config.tracking.uri, folder)
    made = done.confirm(StubTrainer(), top=4, seeds=5, margin=0.5)
    assert made.is_shown
    assert {trial.params.units for trial in trials} == {4, 8}
    winner = next(trial for trial in trials if trial.run_id == made.recommended)
    assert winner.params.units == 4  # 400 parameters instead of 800, and as many seconds


def test_interrupted_it_leaves_nothing_open_and_goes_on(done: Done) -> None:
    with pytest.raises(KeyboardInterrupt):
        done.confirm(StubTrainer(stops_after=3), top=2, seeds=3)
    states = [run.status for run in done.confirming()]
    assert sorted(states) == ["FINISHED"] * 3 + ["KILLED"]
    rest = StubTrainer()
    made = done.confirm(rest, top=2, seeds=3)
    assert len(rest.specs) == 3
    assert [len(row.run_ids) for row in made.rows] == [3, 3]


def test_what_another_process_left_running_is_closed(done: Done) -> None:
    done.confirm(StubTrainer(), top=1, seeds=1)
    left = done.confirming()[0]
    done.client.update_run(left.run_id, status="RUNNING")
    again = StubTrainer()
    done.confirm(again, top=1, seeds=1)
    assert len(again.specs) == 1
    assert sorted(run.status for run in done.confirming()) == ["FINISHED", "KILLED"]


def test_if_every_training_fails_the_reason_is_reported(done: Done) -> None:
    with pytest.raises(SearchAborted, match="the loss became nan"):
        done.confirm(StubTrainer(fails=True), top=2, seeds=1)
    assert [run.status for run in done.confirming()] == ["FAILED", "FAILED"]
    assert api.read_confirmation(done.search, uri=done.uri) is None


def test_a_damaged_correctness_file_is_reported(done: Done) -> None:
    done.confirm(StubTrainer(), top=1, seeds=1)
    run = done.confirming()[0]
    bad = done.folder / CORRECTNESS_FILE
    bad.write_bytes(b"\x93NUMPY nonsense")
    done.client.log_artifact(run.run_id, str(bad))
    with pytest.raises(UserError, match=f"{CORRECTNESS_FILE} of run {run.run_id}"):
        done.confirm(StubTrainer(), top=1, seeds=1)


def test_trainings_whose_files_are_gone_are_trained_again(done: Done) -> None:
    made = done.confirm(StubTrainer(), top=1, seeds=2)
    for run_id in (made.run_id, *(run.run_id for run in done.confirming())):
        shutil.rmtree(done.client.get_run(run_id).info.artifact_uri)
    assert api.read_confirmation(done.search, uri=done.uri) is None
    trainer = StubTrainer()
    again = done.confirm(trainer, top=1, seeds=2)
    assert len(trainer.specs) == 2
    assert again.winner.mean == made.winner.mean
    assert not {*again.winner.run_ids} & {*made.winner.run_ids}


def test_a_confirmation_that_cannot_be_read_counts_as_none(done: Done) -> None:
    made = done.confirm(StubTrainer(), top=1, seeds=1)
    done.client.log_dict(made.run_id, {"rows": [{"name": 1}]}, results.RESULT_FILE)
    search, trial = api.best(uri=done.uri)
    assert api.read_confirmation(search, uri=done.uri) is None
    assert mlflow_names.CONFIRMS not in trial.tags


def test_test_evaluations_are_counted_on_the_search(done: Done) -> None:
    done.confirm(StubTrainer(), top=1, seeds=1)
    for trial in (reader.read_trials(done.client, done.search)[0], done.confirming()[0]):
        writer.count_test_evaluation(done.client, reader.search_of(done.client, trial))
    found = reader.find_search(done.client)
    assert found.metrics[mlflow_names.TEST_EVALUATIONS] == 2
    history = done.client.get_metric_history(found.run_id, mlflow_names.TEST_EVALUATIONS)
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 2.0)]


def test_refit_trains_on_all_reviews_for_the_epochs_found_and_once(done: Done) -> None:
    done.confirm(StubTrainer(), top=1, seeds=2)
    _, trial = api.best(uri=done.uri)
    trainer = StubTrainer()
    where = {"uri": done.uri, "cache": done.folder / "cache", "folder": done.folder / "runs"}
    made = api.refit(trial, api.Context(trainer=trainer, **where))
    (spec,) = trainer.specs
    assert not spec.settings.hold_out
    assert spec.params == trial.params
    assert (spec.settings.epochs, spec.settings.schedule_epochs, spec.settings.patience) == (
        2,
        3,
        0,
    )  # the stub's best is 2
    assert made.tags[mlflow_names.REFITS] == trial.run_id
    assert made.score is None
    assert reader.search_of(done.client, made) == done.search.run_id
    assert api.refit(trial, api.Context(trainer=trainer, **where)).run_id == made.run_id
    other = api.refit(trial, api.Context(trainer=trainer, **where), seed=3)
    assert other.run_id != made.run_id
    assert trainer.specs[-1].settings.seed == 3


def test_a_refit_is_reproduced_as_it_was_trained(done: Done) -> None:
    _, trial = api.best(uri=done.uri)
    where = {"uri": done.uri, "cache": done.folder / "cache", "folder": done.folder / "runs"}
    made = api.refit(trial, api.Context(trainer=StubTrainer(), **where))
    again = StubTrainer()
    compared = api.reproduce(made.run_id, api.Context(trainer=again, **where))
    assert (again.specs[0].settings.hold_out, again.specs[0].settings.schedule_epochs) == (False, 3)
    assert compared.agrees


def test_nothing_to_confirm(done: Done, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search 'other'"):
        done.confirm(StubTrainer(), search_ref="other")


def test_everything_names_the_confirmed_configuration(done: Done) -> None:
    made = done.confirm(StubTrainer(), top=2, seeds=3)
    search, trial = api.best(uri=done.uri)
    assert trial.run_id == made.winner.run_ids[0]
    assert search.tags["imdbtune.best"] == made.winner.name
    assert search.tags["imdbtune.best_run_id"] == trial.run_id
    assert f"**Best: [{made.winner.name}]" in search.tags[mlflow_names.NOTE]
    compared = api.compare(uri=done.uri)
    assert compared.confirmed[search.run_id].winner.run_ids == made.winner.run_ids
    trials = reader.read_trials(done.client, search)
    report = render(read_report_data(done.client, search, trials), {})
    assert made.winner.name in report.partition('class="what"')[2].partition("</p>")[0]


def test_trials_that_ended_later_and_are_better_are_noticed(done: Done) -> None:
    made = done.confirm(StubTrainer(), top=2, seeds=3)
    assert made.newer == 0
    search = reader.find_search(done.client)
    parent = writer.SearchRun.adopt(done.client, search.run_id, search.experiment_id, search.tags)
    run = writer.Run(done.client, parent.start_trial("0099", TrialParams(units=999), {}))
    run.log({"best_val_accuracy": 0.999})
    run.end("FINISHED")
    again = api.read_confirmation(search, uri=done.uri)
    assert again is not None
    assert again.newer == 1
    assert describe(again).endswith(
        "1 newer trial ranks above a confirmed one: run imdbtune confirm again"
    )


def test_a_confirmation_whose_trainings_were_deleted_recommends_nothing(done: Done) -> None:
    made = done.confirm(StubTrainer(), top=1, seeds=3)
    search = reader.find_search(done.client)
    done.client.delete_run(made.winner.run_ids[0])
    left = api.read_confirmation(search, uri=done.uri)
    assert left is not None
    assert left.winner.run_ids == made.winner.run_ids[1:]
    for run_id in left.winner.run_ids:
        done.client.delete_run(run_id)
    assert api.read_confirmation(search, uri=done.uri) is None
    assert api.best(uri=done.uri)[1] == reader.read_best(done.client, search)
