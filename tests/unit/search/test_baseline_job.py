"""The baselines of a search: logged once, in the background, without an effect on the trials."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.config.schema import SearchConfig
from imdbtune.data.imdb import npz_corpus
from imdbtune.models import nb_cache, nb_linear
from imdbtune.models.metrics.metric import CORRECTNESS_FILE, best_names
from imdbtune.search import baseline_job
from imdbtune.search.events import BaselineEnded, Event
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Baseline, Search
from imdbtune.training.hardware import machine_tags
from imdbtune.training.spec import TrialSpec
from tests.support import Stub, isolate, make_config, noting, prepare, run_search, stub_trainer

# What the process does instead of training.
SLEEPS = "import time; time.sleep(60)"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


def config_in(here: Path, **tracked: Any) -> SearchConfig:
    return make_config(here, space={"units": [4, 8]}, tracking={"baseline": True, **tracked})


def go_on(here: Path, config: SearchConfig, **more: Any) -> Search:
    where: dict[str, Any] = {"cache": here / "cache", "folder": here / "runs", **more}
    return api.resume(
        context=api.Context(uri=config.tracking.uri, workers=0, trainer=stub_trainer, **where)
    )


def statuses(config: SearchConfig) -> list[tuple[str, str]]:
    """Every run that is neither search nor trial, with its status."""
    client = connect(config.tracking.uri)
    runs = client.search_runs([reader.find_search(client).experiment_id])
    tags = [(run.data.tags.get(mlflow_names.BASELINE), run.info.status) for run in runs]
    return sorted((which, status) for which, status in tags if which)


def test_baselines_have_runs_and_are_not_trials(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []

    def listen(event: Event) -> None:
        heard.extend([event.name] if isinstance(event, BaselineEnded) else [])

    client, search = run_search(config_in(here), here, listener=listen)
    assert [trial.params.units for trial in reader.read_trials(client, search)] == [8, 4]
    majority, linear = reader.read_baselines(client, search)
    assert (linear.status, majority.status) == ("FINISHED", "FINISHED")
    common = {"best_accuracy", "best_loss", "best_val_accuracy", "best_val_loss"}
    assert common | {"train_seconds", "parameter_count"} == set(majority.metrics)
    assert set(linear.metrics) == {*majority.metrics, "features"}
    run = client.get_run(linear.run_id)
    assert run.info.run_name == "baseline-nb-linear"
    assert run.data.tags[mlflow_names.PARENT] == search.run_id
    assert run.data.tags[mlflow_names.KIND] == "baseline"
    assert run.data.params == {"ngrams": "1,2", "alpha": "1.0", "C": "0.1", "min_df": "2"}
    assert heard == [mlflow_names.MAJORITY, mlflow_names.LINEAR]
    note = client.get_run(search.run_id).data.tags[mlflow_names.NOTE]
    assert "A linear model on word pairs [reaches](" in note
    _predicts_again(client, linear, here)
    _is_reported(linear, capsys, config_in(here).tracking.uri)
    again = go_on(here, config_in(here))
    assert again.run_id == search.run_id
    assert statuses(config_in(here)) == [("majority", "FINISHED"), ("nb-linear", "FINISHED")]


def _predicts_again(client: Any, linear: Baseline, here: Path) -> None:
    """The model in MLflow reaches what its run says."""
    path = Path(client.download_artifacts(linear.run_id, nb_linear.MODEL, str(here)))
    model = nb_linear.LinearModel.load(path)
    _, validation = nb_linear.train_and_validation(
        npz_corpus(here / "imdb.npz", here / "cache").train
    )
    measured = nb_linear.measure(validation.labels, nb_linear.predict(model, validation))
    assert measured["loss"] == pytest.approx(linear.metrics["best_val_loss"])


def _is_reported(linear: Baseline, capsys: pytest.CaptureFixture[str], uri: str) -> None:
    reached = linear.metrics["best_val_accuracy"]
    for command in ("compare", "best"):
        app([command, "--tracking-uri", uri], standalone_mode=False)
        printed = capsys.readouterr().out
        assert f"a linear model on word pairs reaches {reached:.4f} in " in printed
        assert " s: the best trial is " in printed
        app([command, "--tracking-uri", uri, "--quiet"], standalone_mode=False)
        assert "linear" not in capsys.readouterr().out
    app(["best", "--tracking-uri", uri, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["baseline_val_accuracy"] == reached


def test_a_search_without_baselines_has_none(here: Path) -> None:
    config = make_config(here, space={"units": [4]})
    client, search = run_search(config, here)
    assert reader.read_baselines(client, search) == []


def interrupt_at_second(spec: TrialSpec) -> None:
    if spec.params.units == 8:
        raise KeyboardInterrupt


def test_an_interrupted_baseline_is_repeated_once(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_in(here)
    with monkeypatch.context() as patch:
        patch.setattr(baseline_job, "CODE", SLEEPS)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run_search(config, here, trainer=Stub(interrupt_at_second))
        assert time.monotonic() - started < 30
    alive = (p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE)
    assert not [p for p in alive if SLEEPS in p.cmdline()]
    assert statuses(config) == [("majority", "FINISHED"), ("nb-linear", "KILLED")]
    found = go_on(here, config)
    assert found.status == "FINISHED"
    assert statuses(config) == [
        ("majority", "FINISHED"),
        ("nb-linear", "FINISHED"),
        ("nb-linear", "KILLED"),
    ]
    known = reader.read_baselines(connect(config.tracking.uri), found)
    assert [b.status for b in known] == ["FINISHED", "FINISHED"]


def failing(here: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> tuple[str, str]:
    """The notice of a search whose linear model fails, and the reason on its run."""
    monkeypatch.setattr(baseline_job, "CODE", code)
    notices: list[str] = []

    listen = noting(notices)

    config = config_in(here)
    client, search = run_search(config, here, listener=listen)
    assert search.status == "FINISHED"
    assert len(reader.read_trials(client, search)) == 2
    assert statuses(config) == [("majority", "FINISHED"), ("nb-linear", "FAILED")]
    (linear,) = (b for b in reader.read_baselines(client, search) if b.name == mlflow_names.LINEAR)
    assert linear.accuracy is None
    (notice,) = notices
    return notice, client.get_run(linear.run_id).data.tags[mlflow_names.REASON]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('no such luck')", "ValueError: no such luck"),
        ("print('nothing is left')", "FileNotFoundError: "),
        (
            "import os; os.kill(os.getpid(), 9)",
            "its process was killed by signal 9 (out of memory?)",
        ),
    ],
)
def test_its_failure_is_a_notice(
    code: str, reason: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice, tag = failing(here, monkeypatch, code)
    assert notice.startswith(f"no linear model to compare the trials with: {reason}")
    assert tag.startswith(reason)


def test_the_wait_for_it_is_limited(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_job, "WAIT_S", 0.1)
    assert failing(here, monkeypatch, SLEEPS)[1] == "it was not finished 0.1 s after the trials"


def test_a_process_that_cannot_be_started_is_a_notice(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(here)
    monkeypatch.setattr(sys, "executable", str(here / "no such python"))
    notices: list[str] = []
    config = config_in(here)
    _, search = run_search(
        config,
        here,
        listener=noting(notices),
    )
    assert search.status == "FINISHED"
    assert statuses(config) == [("majority", "FINISHED"), ("nb-linear", "FAILED")]
    assert "No such file" in notices[0]


def test_the_process_ends_with_the_one_that_started_it() -> None:
    code = "import time; from imdbtune.models.background import run_in_background as run; run(); "
    made = subprocess.Popen(
        [sys.executable, "-c", f"{code}print(flush=True); time.sleep(60)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert made.stdin
    assert made.stdout
    assert made.stdout.readline() == b"\n"
    assert made.poll() is None
    made.stdin.close()
    assert made.wait(timeout=30) == -signal.SIGKILL
    made.stdout.close()


def test_the_next_search_over_the_same_reviews_has_no_need_to_train_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, first = run_search(config_in(here), here)
    monkeypatch.setattr(baseline_job, "CODE", "raise SystemExit(1)")
    _, second = run_search(config_in(here), here)
    (_, one), (_, two) = (reader.read_baselines(client, s) for s in (first, second))
    assert one.run_id != two.run_id
    assert two.metrics == one.metrics
    _predicts_again(client, two, here)
    (kept,) = (here / "cache").rglob(f"linear-*/{nb_linear.MODEL}")
    kept.write_bytes(b"nonsense")
    _, third = run_search(config_in(here), here)
    assert [b.status for b in reader.read_baselines(client, third)] == ["FINISHED", "FAILED"]


def test_what_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "linear-x"
    for folder in (out, kept):
        folder.mkdir()
        (folder / nb_linear.MODEL).write_bytes(b"nonsense")
    assert not nb_cache.is_cached(kept)
    nb_linear.LinearModel(np.array([5]), np.array([1], np.float32), bias=0.5, vocabulary=9).save(
        out / nb_linear.MODEL
    )
    (out / nb_linear.RESULT).write_text("{}", encoding="utf-8")
    nb_cache.save_to_cache(out, kept)
    assert not nb_cache.is_cached(kept)  # a metric is missing
    metrics = json.dumps(dict.fromkeys(best_names(), 0.5))
    (out / nb_linear.RESULT).write_text(metrics, encoding="utf-8")
    nb_cache.save_to_cache(out, kept)
    assert not nb_cache.is_cached(kept)  # its predictions are missing
    np.save(out / CORRECTNESS_FILE, np.array([True]))
    np.save(out / nb_linear.PREDICTED, np.array([0.9]))
    nb_cache.save_to_cache(out, kept)
    assert nb_cache.is_cached(kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear-x", "out"]


def test_the_machine_is_told_while_another_thread_imports_tensorflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    assert machine_tags()["imdbtune.gpus"] == "0"
