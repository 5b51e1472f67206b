"""Searches of users' own models, in small: the examples of ``workflows/models``.

The tests of an example share its search, and so run in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cluster.trial_job import Trainer
from imdbtune.config.extensions import FORMATS
from imdbtune.config.schema import load_config
from imdbtune.errors import ExportFailed, UserError
from imdbtune.export.verify import run_scripts
from imdbtune.search import estimate
from imdbtune.search.resume import stored_config
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from tests.forked import FORKS, warm_up
from tests.support import demo_cache, draw_nothing, new_store, scripts_here, stub_trainer

pytestmark = pytest.mark.xdist_group("own models")
MODELS = Path(__file__).parents[2] / "workflows" / "models"
SMALL = {
    "cnn_ngrams": {"embedding": "32", "filters": "32", "widths": "3,2-3-4"},
    "transformer": {"width": "16", "blocks": "1", "heads": "2", "inner": "32"},
    "minimal_gated_unit": {"embedding": "16", "layers": "1", "units": "16,32"},
}
# With a report and a pruner, and on both paths of batches.
HOW = {
    "cnn_ngrams": {"training.batching": "padded", "tuner.prune": "median"},
    "transformer": {"tuner.max_trials": "1"},
    "minimal_gated_unit": {"tuner.prune": "median", "tracking.report": "true"},
}
CUSTOM = ("transformer", "minimal_gated_unit")  # those with layers of their own
EXPORTED = {
    "cnn_ngrams": ("keras", "onnx"),
    "transformer": ("keras", "onnx"),
    "minimal_gated_unit": ("keras", "savedmodel", "litert", "onnx"),
}
TEXTS = ["A wonderful film.", "Two hours of boredom."]


@dataclass(frozen=True)
class Searched:
    """A search, and where it was run."""

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
    """The searches and exports of the examples, each made when it is first needed."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        super().__init__()
        self.factory = factory
        self.exports: dict[str, Path] = {}

    def exported(self, name: str) -> Path:
        """Export the best model, checked by the scripts of its formats."""
        if name not in self.exports:
            done = self[name]
            with pytest.MonkeyPatch.context() as patch:
                scripts_here(patch)
                folder = done.folder / "export"
                api.export(done.best, folder, done.context, formats=EXPORTED[name])
            self.exports[name] = folder
        return self.exports[name]

    def __missing__(self, name: str) -> Searched:
        folder = self.factory.mktemp(name)
        self[name] = search(folder, MODELS / f"{name}.py", SMALL[name], **HOW[name])
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
    assert len(compared.rows) == int(HOW[name].get("tuner.max_trials", 2))
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


def test_the_report_is_logged(searched: Searches) -> None:
    done = searched["minimal_gated_unit"]
    files = connect(done.context.uri).list_artifacts(done.found.run_id)
    assert "report.html" in {file.path for file in files}


@pytest.mark.parametrize(("name", "formats"), EXPORTED.items())
def test_exports_are_verified(
    searched: Searches, tmp_path: Path, name: str, formats: tuple[str, ...]
) -> None:
    done, folder = searched[name], searched.exported(name)
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


@pytest.mark.parametrize("kind", EXPORTED["minimal_gated_unit"])
def test_models_of_a_class_need_no_imdbtune(searched: Searches, kind: str) -> None:
    """Models without a class of their own have the scripts of imdbtune's own models."""
    names = [name for name in CUSTOM if kind in EXPORTED[name]]
    form = FORMATS[kind]
    form = replace(form, usage=form.own_usage or form.usage)
    answers = run_scripts(form, [searched.exported(name) for name in names], TEXTS)
    for name, found in zip(names, answers, strict=True):
        ours = api.predict(searched.exported(name), TEXTS, searched[name].context)
        assert [p.probability for p in ours] == pytest.approx(found, abs=1e-4)


def test_a_reproduction_is_the_same_and_runs_only_trusted_sources(
    searched: Searches, tmp_path: Path
) -> None:
    """Though the registered model runs another copy of the source before."""
    done = searched["minimal_gated_unit"]
    version = api.register(done.best, "gated", done.context)
    told = api.predict(version.uri, TEXTS, replace(done.context, trust_model=True))
    expected = [p.probability for p in told]
    elsewhere = replace(done.context, folder=tmp_path)
    with pytest.raises(UserError, match=r"artifact model/minimal_gated_unit\.py.*--trust-model"):
        api.reproduce(done.best.run_id, elsewhere)
    again = api.reproduce(done.best.run_id, replace(elsewhere, trust_model=True))
    assert [pair.now for pair in again.epochs] == [pair.then for pair in again.epochs]
    assert again.again.params == done.best.params
    api.evaluate(done.best, elsewhere)  # now it is known there
    found = api.predict(f"runs:/{again.again.run_id}/model", TEXTS, done.context)
    assert [p.probability for p in found] == pytest.approx(expected, abs=1e-5)


def test_the_mean_of_models_of_a_class_is_exported(
    searched: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts_here(monkeypatch)
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


def test_confirmed_and_refitted_but_not_mixed(searched: Searches) -> None:
    done = searched["cnn_ngrams"]
    confirmed = api.confirm(context=done.context, top=2, seeds=1)
    assert [len(row.run_ids) for row in confirmed.rows] == [1, 1]
    refitted = api.refit(done.best, done.context)
    assert refitted.params == done.best.params
    with pytest.raises(UserError, match=r"cnn_ngrams\.py:build, and a linear model can be mixed"):
        api.ensemble(context=done.context, count=2, linear=True)


def test_its_duration_is_estimated(searched: Searches, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that has not run its source."""
    warm_up()
    monkeypatch.setattr(estimate, "get_context", {"spawn": FORKS}.__getitem__)
    monkeypatch.setattr(estimate, "TIMED_S", 0.01)
    done = searched["cnn_ngrams"]
    found = api.estimate(stored_config(connect(done.context.uri), done.found), done.context)
    assert (found.trials, found.epochs) == (2, 4)
    assert 0 < found.cheapest_s <= found.dearest_s


def test_a_resumed_search_has_the_same_source(demo: object, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = (MODELS / "cnn_ngrams.py").read_text()
    file.write_text(text)
    settings = {"tuner.max_trials": "1", "tracking.keep_models": "0"}
    stubbed = search(tmp_path, file, SMALL["cnn_ngrams"], stub_trainer, **settings)
    done = replace(stubbed, context=replace(stubbed.context, trainer=None))
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
def test_all_samplers(
    demo: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    draw_nothing(monkeypatch)
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
