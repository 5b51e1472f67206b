"""Searches of users' own models, in small: the examples of ``workflows/models``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cluster.trial_job import Trainer
from imdbtune.config.schema import load_config
from imdbtune.errors import ExportFailed, UserError
from imdbtune.search.resume import stored_config
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from tests.support import demo_cache, new_store, stub_trainer

MODELS = Path(__file__).parents[2] / "workflows" / "models"
SMALL = {
    "cnn_ngrams": {"embedding": "32", "filters": "32", "widths": "3,2-3-4"},
    "transformer": {"width": "16", "blocks": "1", "heads": "2", "inner": "32"},
    "minimal_gated_unit": {"embedding": "16", "layers": "1", "units": "16,32"},
}
CUSTOM = ("transformer", "minimal_gated_unit")  # those with layers of their own
CONVERTED = ("keras", "savedmodel", "litert", "onnx")
EXPORTED = {**dict.fromkeys(SMALL, CONVERTED), "transformer": ("keras", "onnx")}
TEXTS = ["A wonderful film.", "Two hours of boredom."]


@dataclass(frozen=True)
class Searched:
    """A search of two trials, and where it was run."""

    folder: Path
    context: api.Context
    found: Search
    best: Trial


def search(
    folder: Path,
    file: Path,
    space: Mapping[str, str],
    trainer: Trainer | None = None,
    **more: str,
) -> Searched:
    """Run a search over 200 demo reviews, in this process."""
    flags = {
        "model.build": f"{file}:build",
        **{f"space.{name}": value for name, value in space.items()},
        "space.maxlen": "12",
        "space.vocabulary": "300",
        "space.batch_size": "64",
        "data.source": "demo",
        "data.reviews": "200",
        "training.epochs": "2",
        "tuner.max_trials": "2",
        "tracking.baseline": "false",
        "tracking.report": "false",
        **more,
    }
    where: dict[str, Any] = {"cache": demo_cache(), "folder": folder / "runs", "workers": 0}
    context = api.Context(new_store(folder), trainer=trainer, **where)
    found = api.search(load_config(None, flags), context)
    return Searched(folder, context, found, api.best(uri=context.uri)[1])


class Searches(dict[str, Searched]):
    """The searches of the examples, each run when it is first needed."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        super().__init__()
        self.factory = factory

    def __missing__(self, name: str) -> Searched:
        self[name] = search(self.factory.mktemp(name), MODELS / f"{name}.py", SMALL[name])
        return self[name]


@pytest.fixture(scope="module")
def searched(demo: object, tmp_path_factory: pytest.TempPathFactory) -> Searches:
    """The searches of all examples."""
    return Searches(tmp_path_factory)


@pytest.mark.parametrize("name", SMALL)
def test_trials_have_what_the_model_draws(searched: Searches, name: str) -> None:
    done = searched[name]
    assert done.found.status == "FINISHED"
    assert done.best.params.own is not None
    assert done.best.params.own.build == f"{name}.py:build"
    assert done.best.params.maxlen == 12
    compared = api.compare(uri=done.context.uri)
    assert len(compared.rows) == 2
    assert all(row["status"] == "FINISHED" for row in compared.rows)
    for key, value in SMALL[name].items():
        assert {str(row[key]) for row in compared.rows} <= set(value.split(","))


@pytest.mark.parametrize("name", SMALL)
def test_the_source_is_logged_with_its_digest(searched: Searches, name: str) -> None:
    done, file = searched[name], MODELS / f"{name}.py"
    client = connect(done.context.uri)
    logged = client.download_artifacts(done.found.run_id, f"model/{name}.py", str(done.folder))
    assert Path(logged).read_text() == file.read_text()
    own = stored_config(client, done.found).space.own
    assert own is not None
    assert done.found.tags["imdbtune.model_sha256"] == own.source.digest


def test_a_reproduction_has_the_same_numbers(searched: Searches) -> None:
    done = searched["minimal_gated_unit"]
    again = api.reproduce(done.best.run_id, done.context)
    assert [pair.now for pair in again.epochs] == [pair.then for pair in again.epochs]
    assert again.again.params == done.best.params


@pytest.mark.parametrize(("name", "formats"), EXPORTED.items())
def test_exports_are_verified(
    searched: Searches, tmp_path: Path, name: str, formats: tuple[str, ...]
) -> None:
    done = searched[name]
    folder = done.folder / "export"
    api.export(done.best, folder, done.context, formats=formats)
    assert (folder / "own_model.py").exists() == (name in CUSTOM)
    found = {
        kind: [p.probability for p in api.predict(folder, TEXTS, done.context, model_format=kind)]
        for kind in formats
    }
    for kind in formats[1:]:
        assert found[kind] == pytest.approx(found["keras"], abs=1e-4)
    # The searches in the folder of the context have run the same source.
    if name in CUSTOM:
        elsewhere = replace(done.context, folder=tmp_path)
        with pytest.raises(UserError, match=r"own_model\.py of that folder.*--trust-model"):
            list(api.predict(folder, TEXTS, elsewhere))


def test_a_registered_model_does_not_change_later_ones(searched: Searches) -> None:
    done = searched["minimal_gated_unit"]
    version = api.register(done.best, "gated", done.context)  # runs another copy of the source
    trusted = replace(done.context, trust_model=True)
    (before, after) = api.predict(version.uri, TEXTS, trusted)
    again = api.reproduce(done.best.run_id, done.context).again
    found = list(api.predict(f"runs:/{again.run_id}/model", TEXTS, done.context))
    assert [p.probability for p in found] == pytest.approx(
        [before.probability, after.probability], abs=1e-5
    )


def test_the_mean_of_models_of_a_class_is_exported(searched: Searches) -> None:
    done = searched["minimal_gated_unit"]
    averaged, members = api.ensemble(done.found.run_id, 2, done.context)
    assert averaged.params.own is not None
    folder = api.export(averaged, done.folder / "mean", done.context, formats=["keras", "onnx"])
    assert "The mean of 2 Keras models that `minimal" in (folder / "README.md").read_text()
    of_members = [
        [p.probability for p in api.predict(f"runs:/{m.run_id}/model", TEXTS, done.context)]
        for m in members
    ]
    expected = [sum(each) / 2 for each in zip(*of_members, strict=True)]
    for kind in ("keras", "onnx"):
        found = api.predict(folder, TEXTS, done.context, model_format=kind)
        assert [p.probability for p in found] == pytest.approx(expected, abs=1e-5)


def test_the_format_of_our_equations_refuses_it(searched: Searches) -> None:
    done = searched["cnn_ngrams"]
    with pytest.raises(ExportFailed, match=r"cannot represent a model of cnn_ngrams\.py:build"):
        api.export(done.best, done.folder / "numpy", done.context, formats=["numpy"])
    assert not (done.folder / "numpy").exists()


def test_a_model_of_others_is_run_only_if_it_is_trusted(searched: Searches, tmp_path: Path) -> None:
    done = searched["minimal_gated_unit"]
    elsewhere = replace(done.context, folder=tmp_path)
    with pytest.raises(UserError, match=r"artifact model/minimal_gated_unit\.py.*--trust-model"):
        api.reproduce(done.best.run_id, elsewhere)
    trusted = replace(elsewhere, trust_model=True)
    assert api.reproduce(done.best.run_id, trusted).again.params == done.best.params
    api.evaluate(done.best, elsewhere)  # now it is known there


def test_confirmed_and_refitted_but_not_mixed(searched: Searches) -> None:
    done = searched["cnn_ngrams"]
    confirmed = api.confirm(context=done.context, top=2, seeds=2)
    assert [len(row.run_ids) for row in confirmed.rows] == [2, 2]
    refitted = api.refit(done.best, done.context)
    assert refitted.params == done.best.params
    with pytest.raises(UserError, match=r"cnn_ngrams\.py:build, and a linear model can be mixed"):
        api.ensemble(context=done.context, count=2, linear=True)


def test_its_duration_is_estimated(searched: Searches) -> None:
    done = searched["cnn_ngrams"]
    found = api.estimate(stored_config(connect(done.context.uri), done.found), done.context)
    assert (found.trials, found.epochs) == (2, 4)
    assert 0 < found.cheapest_s <= found.dearest_s


def test_a_resumed_search_has_the_same_source(demo: object, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = (MODELS / "cnn_ngrams.py").read_text()
    file.write_text(text)
    done = search(tmp_path, file, SMALL["cnn_ngrams"], **{"tuner.max_trials": "1"})
    more = {"tuner.max_trials": 2}
    file.write_text(text.replace('activation="relu"', 'activation="tanh"'))
    with pytest.raises(UserError, match=r"was started with another mine\.py:build \(line \d+ was"):
        api.resume(None, more, done.context)
    other = {"model.build": f"{MODELS / 'transformer.py'}:build"}
    with pytest.raises(UserError, match="was started with another"):
        api.resume(None, {**more, **other}, done.context)
    file.unlink()  # the search has its own copy
    api.resume(None, more, done.context)
    assert len(api.compare(uri=done.context.uri).rows) == 2


@pytest.mark.parametrize(
    "kind", ["random", "grid", "bayesian", "hyperband", "tpe", "cmaes", "nsga2"]
)
def test_all_samplers(demo: object, tmp_path: Path, kind: str) -> None:
    space = {**SMALL["cnn_ngrams"], "dropout": "0.0", "word_vector_dropout": "0.0,0.25"}
    done = search(
        tmp_path,
        MODELS / "cnn_ngrams.py",
        space,
        stub_trainer,
        **{
            "tuner.kind": kind,
            "tracking.keep_models": "0",
            "training.epochs": "3",
            "training.patience": "0",
        },
    )
    assert done.found.status == "FINISHED"
    assert len(api.compare(uri=done.context.uri).rows) == 2


@pytest.mark.parametrize("batching", ["buckets", "padded"])
def test_pruned_on_both_paths(demo: object, tmp_path: Path, batching: str) -> None:
    done = search(
        tmp_path,
        MODELS / "minimal_gated_unit.py",
        SMALL["minimal_gated_unit"],
        **{"tuner.prune": "median", "training.batching": batching, "tracking.report": "true"},
    )
    assert done.found.status == "FINISHED"
