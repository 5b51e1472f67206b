"""What a search leaves in MLflow, by the stub trainer over real SQLite stores."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune import __version__, api
from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.errors import NotDelivered, SearchAborted, TrialFailed, UserError
from imdbtune.tracking import mlflow_names, reader, run_record, writer
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search
from imdbtune.training.spec import OnEpoch, TrialResult, TrialSpec
from tests.support import (
    Stub,
    isolate,
    make_config,
    new_store,
    run_search,
    stub_metrics,
    stub_trainer,
    tiny_corpus,
    write_tiny_model,
)

PNG = b"\x89PNG"
SPACE = {"rnn": ["gru", "lstm"], "depth": 2, "units": 64, "maxlen": [200, 300]}


def fail_two(spec: TrialSpec) -> None:
    """One trial fails as a training fails, one has a fault in it."""
    if (spec.params.rnn, spec.params.maxlen) == ("gru", 300):
        raise TrialFailed("loss became nan in epoch 1.")
    if (spec.params.rnn, spec.params.maxlen) == ("lstm", 300):
        raise ZeroDivisionError("a fault\nwith a second line")


@dataclass
class Told:
    """A finished search with two good trials and two failed ones, and its store."""

    folder: Path
    client: Any
    search: Search
    parent: Any
    runs: dict[str, Any]

    def text(self, run: Any, path: str) -> str:
        return self.raw(run, path).decode("utf-8")

    def raw(self, run: Any, path: str) -> bytes:
        return Path(self.client.download_artifacts(run.info.run_id, path)).read_bytes()

    def artifacts(self, run: Any) -> set[str]:
        return {artifact.path for artifact in self.client.list_artifacts(run.info.run_id)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        repository = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for name, value in repository.items():
            patch.setenv(name, value)
        commit_something(folder)
        config = make_config(folder, name="my search", space=SPACE, tuner={"seed": 3})
        client, search = run_search(config, folder, pictures=True, trainer=Stub(fail_two))
        made = client.search_runs([search.experiment_id])
        parents = [run for run in made if mlflow_names.PARENT not in run.data.tags]
        children = {
            f"{run.data.params['rnn']} {run.data.params['maxlen']}": run
            for run in made
            if mlflow_names.PARENT in run.data.tags
        }
        assert len(made) == len(parents) + len(children)
        assert len(parents) == 1
        yield Told(folder, client, search, parents[0], children)


def commit_something(folder: Path) -> None:
    me = ("-c", "user.name=A", "-c", "user.email=a@b.invalid")
    for command in (["init", "-q"], [*me, "commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def test_a_search_is_one_run_and_each_trial_a_child_of_it(told: Told) -> None:
    assert set(told.runs) == {"gru 200", "gru 300", "lstm 200", "lstm 300"}
    assert told.parent.info.run_id == told.search.run_id
    assert told.parent.info.run_name == "my search"
    for run in told.runs.values():
        assert run.data.tags[mlflow_names.PARENT] == told.search.run_id
    numbers = {run.data.tags[mlflow_names.TRIAL] for run in told.runs.values()}
    assert numbers == {"0000", "0001", "0002", "0003"}


def test_no_tag_is_empty(told: Told) -> None:
    for run in (told.parent, *told.runs.values()):
        assert [name for name, value in run.data.tags.items() if not value] == []


def test_run_names_can_be_read(told: Told) -> None:
    assert told.runs["gru 200"].info.run_name == "gru-d2-u64-L200"
    assert told.runs["lstm 300"].info.run_name == "lstm-d2-u64-L300"


def test_all_parameters_of_a_trial_are_logged(told: Told) -> None:
    params = told.runs["gru 200"].data.params
    assert params.items() >= {"rnn": "gru", "depth": "2", "units": "64", "maxlen": "200"}.items()
    assert params.items() >= {"bidirectional": "false", "epochs": "3", "seed": "3"}.items()
    assert set(PARAMETERS) <= set(params)


def test_each_epoch_is_logged_at_its_own_step(told: Told) -> None:
    run_id = told.runs["gru 200"].info.run_id
    params = reader.read_run(told.client, run_id).params
    spec = TrialSpec(params, corpus=told.folder, folder=told.folder)
    for name in (*mlflow_names.CURVES, "seconds"):
        logged = told.client.get_metric_history(run_id, name)
        expected = [(epoch, stub_metrics(spec, epoch)[name]) for epoch in (1, 2, 3)]
        assert [(metric.step, metric.value) for metric in logged] == expected


def test_a_trial_has_its_figures(told: Told) -> None:
    metrics = told.runs["lstm 200"].data.metrics
    assert metrics["best_epoch"] == 2
    assert metrics["epochs_run"] == 3
    assert metrics["train_seconds"] == 0.5
    assert metrics["parameter_count"] == 6400
    assert metrics["best_val_accuracy"] == pytest.approx(0.684)
    assert metrics["best_accuracy"] == pytest.approx(0.734)
    assert metrics["best_val_loss"] == pytest.approx(0.316)
    assert "best_val_accuracy_std" not in metrics


def test_search_and_trials_carry_the_same_tags(told: Told) -> None:
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=told.folder, check=True, capture_output=True, text=True)
    expected = {
        "imdbtune.search": "my search",
        "imdbtune.data": "npz",
        "imdbtune.seed": "3",
        "imdbtune.objective": "val_accuracy",
        "mlflow.source.git.commit": commit.stdout.strip(),
    }
    for run in (told.parent, *told.runs.values()):
        assert run.data.tags.items() >= expected.items()
        assert len(run.data.tags[mlflow_names.DIGEST]) == 64
    assert told.parent.data.tags["imdbtune.tuner"] == "grid"
    assert told.parent.data.tags[mlflow_names.KIND] == "search"
    assert {run.data.tags[mlflow_names.KIND] for run in told.runs.values()} == {"trial"}


def test_versions_machine_and_settings_are_in_a_file_not_in_tags(told: Told) -> None:
    """The page of a run shows its tags before its description."""
    finished = [run for run in told.runs.values() if run.info.status == "FINISHED"]
    assert finished
    for run in (told.parent, *finished):
        shown = [tag for tag in run.data.tags if not tag.startswith("mlflow.")]
        assert len(shown) <= 16
        assert not [tag for tag in shown if tag.startswith("version.")]
        facts = json.loads(reader.read_text(told.client, run.info.run_id, run_record.NAME))
        assert facts["version.imdbtune"] == __version__
        assert {f"version.{package}" for package in run_record.PACKAGES} <= set(facts)
        assert facts["imdbtune.patience"] == "2"
        assert not {*facts} & {*shown} - {"imdbtune.seed", *_SHARED}
        if run is not told.parent:
            assert {"imdbtune.cpu", "imdbtune.compiled", "version.python"} <= set(facts)


_SHARED = {"imdbtune.objective", "imdbtune.batching", "imdbtune.reviews"}


def test_the_record_of_an_early_version_is_its_tags(told: Told) -> None:
    trial = reader.read_run(told.client, told.runs["lstm 200"].info.run_id)
    assert run_record.read_facts(told.client, trial)["imdbtune.patience"] == "2"
    early = dataclasses.replace(trial, tags={"version.keras": "3.0", "imdbtune.patience": "5"})
    facts = run_record.read_facts(told.client, early)
    assert (facts["version.keras"], facts["imdbtune.patience"]) == ("3.0", "5")
    other = told.client.create_run(told.search.experiment_id)
    trial = dataclasses.replace(trial, run_id=other.info.run_id)
    for text in ("", "[]", "{", '{"version.keras": {"\\u001b[31m": 1}}'):
        told.client.log_text(trial.run_id, text, run_record.NAME)
        facts = run_record.read_facts(told.client, trial)
        assert facts.items() >= trial.tags.items()
        assert all(value.isprintable() for value in facts.values())


def test_the_data_set_is_an_input_with_our_digest(told: Told) -> None:
    for run in (told.parent, *told.runs.values()):
        (used,) = run.inputs.dataset_inputs
        assert used.dataset.name == "npz"
        assert used.dataset.digest == run.data.tags[mlflow_names.DIGEST][:16]
        assert json.loads(used.dataset.source) == {"uri": str(told.folder / "imdb.npz")}
        assert json.loads(used.dataset.profile) == {"train_rows": 10, "test_rows": 5}
        assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "training"}


def test_the_history_is_kept_as_csv_and_json(told: Told) -> None:
    run = told.runs["gru 200"]
    history = json.loads(told.text(run, "history.json"))
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert history[1]["val_accuracy"] == pytest.approx(0.584)
    table = list(csv.DictReader(io.StringIO(told.text(run, "history.csv"))))
    assert [{k: float(v) for k, v in row.items()} for row in table] == history


def test_a_finished_trial_has_its_pictures(told: Told) -> None:
    run = told.runs["gru 200"]
    assert told.artifacts(run) == {
        "history.csv",
        "history.json",
        "record.json",
        "accuracy.png",
        "loss.png",
    }
    assert told.raw(run, "accuracy.png").startswith(PNG)
    assert told.raw(run, "loss.png").startswith(PNG)


@pytest.mark.parametrize(
    ("trial", "reason", "raised"),
    [
        ("gru 300", "loss became nan in epoch 1.", "TrialFailed: loss became nan in epoch 1."),
        (
            "lstm 300",
            "ZeroDivisionError: a fault",
            "ZeroDivisionError: a fault\nwith a second line",
        ),
    ],
)
def test_a_failed_trial_says_why_and_where(
    told: Told, trial: str, reason: str, raised: str
) -> None:
    run = told.runs[trial]
    assert run.info.status == "FAILED"
    assert run.data.tags[mlflow_names.REASON] == reason
    traceback = told.text(run, "traceback.txt")
    assert traceback.startswith("Traceback (most recent call last)")
    assert "in fail_two" in traceback
    assert traceback.strip().endswith(raised)


def test_a_search_goes_on_after_failed_trials(told: Told) -> None:
    assert told.parent.info.status == "FINISHED"
    assert {trial for trial, run in told.runs.items() if run.info.status == "FINISHED"} == {
        "gru 200",
        "lstm 200",
    }
    assert told.parent.data.metrics["trials_finished"] == 2
    assert told.parent.data.metrics["trials_failed"] == 2


def test_the_search_has_the_metrics_of_its_best_trial(told: Told) -> None:
    best = told.runs["lstm 200"]
    names = ("best_val_accuracy", "best_val_loss", "best_accuracy", "best_loss", "best_epoch")
    for name in names:
        assert told.parent.data.metrics[name] == best.data.metrics[name]
    assert told.parent.data.tags["imdbtune.best"] == best.info.run_name
    assert told.parent.data.tags["imdbtune.best_run_id"] == best.info.run_id
    assert told.parent.data.metrics["search_seconds"] > 0


def test_the_search_has_its_leaderboard_as_a_table(told: Told) -> None:
    table = json.loads(told.text(told.parent, "leaderboard.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["status"] for row in rows] == ["FINISHED", "FINISHED", "FAILED", "FAILED"]
    assert [(row["rnn"], row["maxlen"]) for row in rows[:2]] == [("lstm", 200), ("gru", 200)]
    assert rows[0]["best_val_accuracy"] == pytest.approx(0.684)
    assert rows[0]["run_id"] == told.runs["lstm 200"].info.run_id
    assert rows[2]["best_val_accuracy"] is None
    logged = json.loads(told.parent.data.tags["mlflow.loggedArtifacts"])
    assert logged == [{"path": "leaderboard.json", "type": "table"}]


def test_the_description_lists_the_trials_with_links(told: Told) -> None:
    lines = told.parent.data.tags[mlflow_names.NOTE].splitlines()
    assert "Trials: 2 finished, 2 failed." in lines[0]
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| # | trial | rnn | maxlen | val_accuracy | epoch | seconds |"
    run_id = told.runs["lstm 200"].info.run_id
    page = f"#/experiments/{told.search.experiment_id}/runs/{run_id}?workflowType=machine_learning"
    assert table[2].startswith(f"| 1 | [lstm-d2-u64-L200]({page}) | lstm | 200 | 0.6840 | 2 |")
    assert len(table) == 4
    assert {line.count("|") for line in table} == {8}


def test_the_search_has_the_curves_and_its_configuration(told: Told) -> None:
    names = {"all_val_accuracy.png", "config.toml", "leaderboard.json", "record.json"}
    assert told.artifacts(told.parent) == names
    assert told.raw(told.parent, "all_val_accuracy.png").startswith(PNG)
    config = tomllib.loads(told.text(told.parent, "config.toml"))
    assert config["space"]["rnn"] == ["gru", "lstm"]
    assert config["tuner"]["seed"] == 3
    assert told.parent.data.params.items() >= {"tuner.seed": "3", "space.rnn": "gru, lstm"}.items()


# Searches of another kind, each in a folder of its own.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


def statuses(client: Any) -> dict[str, list[str]]:
    """Statuses of the searches and of the trials, in the order of the trials."""
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["tags.`imdbtune.trial`"])
    kinds: dict[str, list[str]] = {"search": [], "trial": []}
    for run in runs:
        kinds[run.data.tags[mlflow_names.KIND]].append(run.info.status)
    return kinds


def test_several_executions_are_kept_apart(here: Path) -> None:
    config = make_config(here, space={"units": [4, 8]}, tuner={"executions": 3})
    client, search = run_search(config, here)
    metrics = reader.read_best(client, search).metrics
    assert metrics["val_accuracy"] == pytest.approx(0.618)
    assert metrics["execution_2/val_accuracy"] == pytest.approx(0.619)
    assert metrics["execution_3/val_accuracy"] == pytest.approx(0.620)
    assert "execution_1/val_accuracy" not in metrics
    assert metrics["best_val_accuracy"] == pytest.approx(0.629)
    assert metrics["best_val_accuracy_std"] == pytest.approx(0.001)


class InterruptedAt:
    """Ctrl-C in the trial with this number of units, in its second epoch."""

    def __init__(self, units: int) -> None:
        self.units = units

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        if spec.params.units == self.units:
            on_epoch(0, stub_metrics(spec, 1))
            raise KeyboardInterrupt
        return stub_trainer(spec, on_epoch)


def test_ctrl_c_while_libraries_are_imported_closes_the_search(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imdbtune.search.session.make_sampler", interrupted)
    config = make_config(here, space={"units": [4, 5]})
    with pytest.raises(KeyboardInterrupt):
        run_search(config, here)
    assert statuses(connect(config.tracking.uri)) == {"search": ["KILLED"], "trial": []}


@pytest.mark.parametrize(("units", "finished"), [(4, 0), (5, 1), (6, 2)])
def test_ctrl_c_closes_all_runs(units: int, finished: int, here: Path) -> None:
    config = make_config(here, space={"units": [4, 5, 6, 7]})
    with pytest.raises(KeyboardInterrupt):
        run_search(config, here, trainer=InterruptedAt(units))
    client = connect(config.tracking.uri)
    assert statuses(client) == {"search": ["KILLED"], "trial": ["FINISHED"] * finished + ["KILLED"]}
    search = reader.find_search(client)
    assert search.tags[mlflow_names.REASON] == "interrupted"
    cut_off = reader.read_trials(client, search)[-1]
    assert cut_off.reason == "interrupted"
    assert cut_off.ended_ms is not None
    assert len(reader.read_history(client, cut_off.run_id)) == 1
    assert search.metrics["trials_finished"] == finished


def test_an_aborted_search_has_failed_and_says_why(here: Path) -> None:
    def always(spec: TrialSpec) -> None:
        raise TrialFailed("no such luck.")

    config = make_config(here, space={"units": {"min": 1, "max": 9}})
    with pytest.raises(SearchAborted, match="no such luck"):
        run_search(config, here, trainer=Stub(always))
    client = connect(config.tracking.uri)
    assert statuses(client) == {"search": ["FAILED"], "trial": ["FAILED"] * 5}
    assert "no such luck" in reader.find_search(client).tags[mlflow_names.REASON]


def test_the_search_is_closed_even_if_its_page_cannot_be_written(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: Any, **named: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("imdbtune.report.leaderboard.publish", no_room)
    config = make_config(here, space={"units": [4]})
    with pytest.raises(NotDelivered, match=r"no space left.*imdbtune sync"):
        run_search(config, here)
    assert "RUNNING" not in statuses(connect(config.tracking.uri))["search"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_trial_without_a_score_has_failed(value: float, here: Path) -> None:
    def lost(spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        result = stub_trainer(spec, on_epoch)
        if spec.params.units == 4:
            on_epoch(0, {**result.history[-1], "epoch": 4.0, "loss": value})
            return TrialResult(result.history, 2, (value,), 0.5, 400, result.model)
        return result

    client, search = run_search(make_config(here, space={"units": [4, 8]}), here, trainer=lost)
    good, bad = reader.read_trials(client, search)
    assert (good.status, good.params.units) == ("FINISHED", 8)
    assert (bad.status, bad.score) == ("FAILED", None)
    assert bad.reason == f"val_accuracy came out as {value}."
    text = Path(client.download_artifacts(search.run_id, "leaderboard.json")).read_text("utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# Runs that others have started.


def test_the_run_that_mlflow_has_started_becomes_the_search(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(new_store(here))
    tiny_corpus(here)
    theirs = client.create_run(client.create_experiment("theirs"), run_name="funny-cat-12")
    client.log_param(theirs.info.run_id, "max_trials", "2")
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.info.run_id)
    config = make_config(here, name="ours", space={"units": [4, 8]})
    _, search = run_search(config, here)
    assert search.run_id == theirs.info.run_id
    run = client.get_run(search.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "ours")
    assert run.data.params.items() >= {"max_trials": "2", "tuner.kind": "grid"}.items()
    trials = reader.read_trials(client, search)
    assert len(trials) == 2
    experiments = {client.get_run(trial.run_id).info.experiment_id for trial in trials}
    assert experiments == {theirs.info.experiment_id}
    _, second = run_search(config, here)
    assert second.run_id != search.run_id


def test_a_run_id_that_the_store_does_not_have(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    config = make_config(here)
    with pytest.raises(UserError, match=r"MLFLOW_RUN_ID names run '0{32}', which is not in sqlite"):
        run_search(config, here)


def test_an_experiment_in_the_bin_is_named(here: Path) -> None:
    client = connect(new_store(here))
    gone = client.create_experiment("gone")
    client.delete_experiment(gone)
    with pytest.raises(UserError, match=re.escape(f"mlflow experiments restore -x {gone}")):
        writer.get_experiment(client, "gone")


def test_models_are_kept_of_the_best_only(here: Path) -> None:
    config = make_config(here, space={"units": [4, 8, 6]}, tracking={"keep_models": "best"})
    client, search = run_search(config, here, trainer=Stub(write_tiny_model))
    best, *others = reader.read_trials(client, search)
    assert best.params.units == 8
    assert [trial.model_id for trial in others] == [None, None]
    model = client.get_logged_model(best.model_id)
    assert model.experiment_id == search.experiment_id
    assert (model.source_run_id, model.status) == (best.run_id, "READY")
    assert model.params["units"] == "8"
    assert model.tags.items() >= mlflow_names.SOURCE.items()
    assert "best_val_accuracy" in {metric.key for metric in model.metrics}
    (data,) = client.get_run(best.run_id).inputs.dataset_inputs
    assert {metric.dataset_digest for metric in model.metrics} == {data.dataset.digest}
    left = [path.name for path in (here / "runs").rglob("model.keras")]
    assert left == []


def test_trials_of_a_resumed_search_carry_the_tags_of_the_others(here: Path) -> None:
    commit_something(here)
    space = {"units": [4, 5, 6]}
    client, search = run_search(make_config(here, space=space, tuner={"max_trials": 1}), here)
    uri = make_config(here).tracking.uri
    longer = api.resume(
        search.run_id,
        {"tuner.max_trials": 2},
        api.Context(
            uri=uri, workers=0, cache=here / "cache", folder=here / "runs", trainer=stub_trainer
        ),
    )
    assert longer.run_id == search.run_id
    own = (mlflow_names.TRIAL, mlflow_names.KEY, "mlflow.runName")
    first, second = (
        {k: v for k, v in trial.tags.items() if k not in own}
        for trial in reader.read_trials(client, longer)
    )
    assert first == second
    assert "mlflow.source.git.commit" in first
