"""A whole search with models that are really trained, very small ones, on two workers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune import api
from imdbtune.config.schema import parse_config
from imdbtune.data.corpus import Corpus
from imdbtune.export.folder import read_export
from imdbtune.models.mix_weights import from_metrics
from imdbtune.tracking import mlflow_names, reader
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from tests.forked import run_command, run_forked
from tests.support import demo_cache, isolate, light_workers, new_store, untried_exports

pytestmark = pytest.mark.xdist_group("real training")
SPACE: dict[str, Any] = {
    "rnn": ["simple_rnn", "lstm", "gru"],
    "bidirectional": [False, True],
    "units": 4,
    "embedding": 4,
    "maxlen": 12,
    "batch_size": 32,
    "learning_rate": 0.01,
}
TRIALS = 3  # one of each cell
REVIEWS = np.array([[1, 14, 22, 16], [1, 9, 0, 0], [1, 0, 0, 0]], np.int32)


def answer_without_imdbtune(model: Path, out: Path) -> None:
    """In a forked process: Keras alone has to make sense of the file."""
    import keras

    for name in [name for name in sys.modules if name.partition(".")[0] in ("imdbtune", "mlflow")]:
        sys.modules[name] = None  # type: ignore[assignment]
    keras.saving.get_custom_objects().clear()
    loaded = keras.models.load_model(model)
    out.write_text(json.dumps(loaded.predict(REVIEWS, verbose=0).ravel().tolist()))


@dataclass
class Trained:
    """A search over real models that has ended."""

    folder: Path
    client: Any
    search: Search
    trials: list[Trial]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, demo: Corpus) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        light_workers()
        config = parse_config(
            {
                "name": "real",
                "data": {"source": "demo", "reviews": 200},
                "space": SPACE,
                "tuner": {"kind": "random", "max_trials": TRIALS, "seed": 1},
                "training": {"epochs": 2},
                "tracking": {"uri": new_store(folder), "report": False},
            }
        )
        where = {"cache": demo_cache(), "folder": folder / "runs"}
        search = api.search(config, api.Context(workers=2, **where))
        client = connect(config.tracking.uri)
        yield Trained(folder, client, search, reader.read_trials(client, search))


def logged_model(trained: Trained, trial: Trial) -> Path:
    assert trial.model_id
    return Path(trained.client.get_logged_model(trial.model_id).artifact_location)


def test_all_trials_have_finished_with_figures_that_can_be(trained: Trained) -> None:
    assert trained.search.status == "FINISHED"
    assert len({trial.params for trial in trained.trials}) == TRIALS
    assert {trial.params.rnn for trial in trained.trials} == set(SPACE["rnn"])
    for trial in trained.trials:
        assert trial.status == "FINISHED", trial.reason
        assert 0 <= trial.metrics["best_val_accuracy"] <= 1
        assert trial.metrics["best_val_loss"] > 0
        assert trial.metrics["parameter_count"] > 10_000 * 4
        assert trial.metrics["train_seconds"] > 0
    scores = [trial.metrics["best_val_accuracy"] for trial in trained.trials]
    assert scores == sorted(scores, reverse=True)


def test_the_best_epoch_is_the_best_of_the_curve(trained: Trained) -> None:
    for trial in trained.trials:
        history = reader.read_history(trained.client, trial.run_id)
        assert [epoch["epoch"] for epoch in history] == [1, 2]
        best = max(history, key=lambda epoch: (epoch["val_accuracy"], -epoch["epoch"]))
        assert trial.metrics["best_epoch"] == best["epoch"]
        assert trial.metrics["best_val_accuracy"] == best["val_accuracy"]


def test_each_model_is_listed_in_the_experiment_of_its_run(trained: Trained) -> None:
    listed = trained.client.search_logged_models([trained.search.experiment_id])
    sources = {model.source_run_id: model for model in listed}
    assert set(sources) == {trial.run_id for trial in trained.trials}
    for trial in trained.trials:
        assert sources[trial.run_id].model_id == trial.model_id
        assert sources[trial.run_id].params["rnn"] == trial.params.rnn


def test_the_model_has_its_signature_and_requirements(trained: Trained) -> None:
    import mlflow
    from mlflow.models import get_model_info

    mlflow.set_tracking_uri(trained.client.tracking_uri)
    for trial in trained.trials:
        location = logged_model(trained, trial)
        info = get_model_info(str(location))
        (ids,), (out,) = info.signature.inputs.inputs, info.signature.outputs.inputs
        assert (ids.type, ids.shape) == (np.dtype("int32"), (-1, -1))
        assert (out.type, out.shape) == (np.dtype("float32"), (-1, 1))
        named = (location / "requirements.txt").read_text(encoding="utf-8").split()
        assert {line.partition("==")[0] for line in named} >= {"tensorflow", "keras", "numpy"}
        assert "imdbtune" not in (location / "MLmodel").read_text(encoding="utf-8").replace(
            str(location), ""
        )


def test_each_model_loads_with_mlflow_and_with_keras_alone(
    trained: Trained, tmp_path: Path
) -> None:
    import mlflow

    mlflow.set_tracking_uri(trained.client.tracking_uri)
    best = trained.trials[0]
    location = logged_model(trained, best)
    by_mlflow = np.asarray(mlflow.keras.load_model(str(location)).predict(REVIEWS, verbose=0))
    assert by_mlflow.shape == (3, 1)
    assert ((by_mlflow > 0) & (by_mlflow < 1)).all()
    assert len(np.unique(by_mlflow)) == 3

    model, answers = location / "data" / "model.keras", tmp_path / "answers.json"
    assert run_forked(answer_without_imdbtune, model, answers) == 0
    np.testing.assert_allclose(json.loads(answers.read_text()), by_mlflow.ravel(), atol=1e-6)


def test_the_workers_left_nothing_open(trained: Trained) -> None:
    runs = trained.client.search_runs([trained.search.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["imdbtune.data"] for run in runs} == {"demo"}
    log = trained.folder / "runs" / trained.search.run_id / "workers.log"
    assert "Traceback" not in log.read_text(encoding="utf-8")


def test_the_winner_is_exported_from_mlflow_alone(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In another folder, with nothing but the store's address and a cache of the reviews."""
    isolate(monkeypatch, tmp_path)
    untried_exports(monkeypatch)
    uri = trained.client.tracking_uri
    _, best = api.best("real", uri=uri)
    assert best.run_id == trained.trials[0].run_id
    out = api.export(best, tmp_path / "winner", api.Context(uri=uri, cache=demo_cache()))
    good, bad = api.predict(out, ["a wonderful film", "dull and awful"])
    assert 0 < good.probability < 1
    assert good.probability != bad.probability
    metadata = json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["run_id"] == best.run_id
    assert metadata["data"]["digest"] == best.tags[mlflow_names.DIGEST]


def test_a_trial_comes_out_the_same_from_what_mlflow_holds(trained: Trained) -> None:
    """Trained by a worker then, in a process of its own now."""
    uri, cache = str(trained.client.tracking_uri), str(demo_cache())
    words = ["reproduce", trained.trials[-1].run_id, "--tracking-uri", uri, "--cache", cache]
    done = run_command(trained.folder, *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    compared = json.loads(done.stdout.splitlines()[-1])
    assert compared["agrees"] in ("exactly", "within 1e-06")
    assert compared["differs"] == {}
    assert [pair["epoch"] for pair in compared["epochs"]] == [1, 2]
    assert reader.read_run(trained.client, compared["reproduced_as"]).status == "FINISHED"


def test_the_mean_of_the_best_and_a_mix_with_the_linear_model(
    trained: Trained, tmp_path: Path
) -> None:
    uri, cache = str(trained.client.tracking_uri), demo_cache()
    place: dict[str, Any] = {"uri": uri, "cache": cache, "folder": trained.folder / "runs"}
    of_two, members = api.ensemble(trained.search.run_id, 2, api.Context(**place))
    both, same = api.ensemble(trained.search.run_id, 2, api.Context(**place), linear=True)
    assert [member.run_id for member in same] == [member.run_id for member in members]
    assert both.run_id != of_two.run_id
    assert (
        both.tags[mlflow_names.ENSEMBLE_OF] == f"{of_two.tags[mlflow_names.ENSEMBLE_OF]},nb-linear"
    )
    weights = from_metrics(both.metrics)
    assert len(weights) == 2
    assert from_metrics(of_two.metrics) == ()
    again, _ = api.ensemble(trained.search.run_id, 2, api.Context(**place), linear=True)
    assert again.run_id == both.run_id
    for made in (of_two, both):
        context = api.Context(uri=uri, cache=cache)
        folder = api.export(made, tmp_path / made.run_id, context, formats=["numpy"])
        export = read_export(folder)
        assert export.members == tuple(member.params for member in members)
        for checked in export.formats.values():
            assert checked["largest_difference"] < 1e-5
    assert export.metadata["weights"] == list(weights)
    assert f"times {weights[-1]:.3f}: a model" in (export.folder / "README.md").read_text()
    texts = ["a wonderful film", "two hours of boredom", "a film"]
    chances = [
        [p.probability for p in api.predict(tmp_path / made.run_id, texts)]
        for made in (of_two, both)
    ]
    assert not np.allclose(*chances, atol=1e-3)  # the linear model has a say


def test_a_mix_of_models_of_all_reviews_has_the_weights_of_the_mix_before(
    trained: Trained,
) -> None:
    place: dict[str, Any] = {"uri": str(trained.client.tracking_uri), "cache": demo_cache()}
    context = api.Context(**place, folder=trained.folder / "runs")
    before, members = api.ensemble(trained.search.run_id, 2, context, linear=True)
    mixed, again = api.ensemble(trained.search.run_id, 2, context, refitted=True, linear=True)
    assert from_metrics(mixed.metrics) == from_metrics(before.metrics)
    assert [run.tags[mlflow_names.REFITS] for run in again] == [run.run_id for run in members]
    assert "best_val_accuracy" not in mixed.metrics
    assert before.run_id in mixed.tags[mlflow_names.NOTE]
