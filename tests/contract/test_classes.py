"""A search over reviews with five labels, in small: metrics, report, exports and predictions."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from imdbtune import api
from imdbtune.config.extensions import FORMATS
from imdbtune.config.schema import load_config, parse_config
from imdbtune.data.corpus import Corpus
from imdbtune.data.sources import open_corpus
from imdbtune.errors import UserError
from imdbtune.export.format import Trained
from imdbtune.export.formats import export_model
from imdbtune.export.predictor import Predictor
from imdbtune.export.writing import ExportContents
from imdbtune.models.ensembles import averaged_model
from imdbtune.report.page import read_report_data, render
from imdbtune.search.recorded import read_stage
from imdbtune.tracking.connection import connect
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.mlflow_names import LINEAR, MAJORITY
from imdbtune.tracking.model_files import fetch_model
from imdbtune.tracking.predictions import read_confusion, read_correctness
from imdbtune.tracking.reader import read_baselines, read_trials
from imdbtune.training.evaluation import probabilities
from imdbtune.training.fit_data import class_weights, validation_rows
from imdbtune.training.spec import TrainingSettings, TrialSpec
from imdbtune.training.trainer import train_trial
from tests.support import new_store, scripts_here

pytestmark = pytest.mark.xdist_group("classes")
TOPICS = {
    "billing": "invoice refund charge card payment price",
    "bug": "crash error freeze screen broken update",
    "login": "password account reset locked email signin",
    "praise": "great thanks love helpful quick wonderful",
    "shipping": "parcel courier late delivery address package",
}
COUNTS = dict(zip(TOPICS, (120, 75, 45, 36, 24), strict=True))
FILLERS = [
    "the",
    "a",
    "my",
    "your",
    "of",
    "and",
    "with",
    "was",
    "is",
    "it",
    "this",
    "please",
    "today",
    "again",
    "very",
    "some",
]
TEXTS = ["The refund of my invoice, please!", "crash error", ""]
SETTINGS = {
    "space.rnn": "gru",
    "space.units": "4,8",
    "space.embedding": "8",
    "space.maxlen": "20",
    "space.vocabulary": "100",
    "space.optimizer": "adam",
    "space.learning_rate": "0.03",
    "space.batch_size": "16",
    "training.epochs": "3",
}


def write_tickets(path: Path) -> None:
    """A table of texts whose words depend on their labels, most rows with the first label."""
    rng, rows = random.Random(0), ["text,label"]
    for topic, words in TOPICS.items():
        for _ in range(COUNTS[topic]):
            own = rng.choices(words.split(), k=rng.randint(1, 5))
            text = own + rng.choices(FILLERS, k=rng.randint(3, 15))
            rows.append(f"{' '.join(rng.sample(text, len(text)))},{topic}")
    path.write_text("\n".join(rows))


@dataclass(frozen=True)
class Searched:
    """A search of two trials, and where it was run."""

    folder: Path
    context: api.Context
    found: Search
    best: Trial
    corpus: Corpus


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("classes")
    write_tickets(folder / "tickets.csv")
    flags = {
        **SETTINGS,
        "data.source": str(folder / "tickets.csv"),
        "training.class_weight": "balanced",
        "tuner.max_trials": "2",
        "tuner.kind": "grid",
        "tracking.report": "false",
    }
    cache = folder / "cache"
    context = api.Context(new_store(folder), cache=cache, folder=folder / "runs", workers=0)
    config = load_config("none", flags)
    found = api.search(config, context)
    corpus = open_corpus(config.data.source, cache, print)
    return Searched(folder, context, found, api.best(uri=context.uri)[1], corpus)


def fetch(searched: Searched) -> Path:
    """The file of the best trial's model."""
    target = searched.folder / "fetched"
    target.mkdir(exist_ok=True)
    return fetch_model(connect(searched.context.uri), searched.best, target)


def is_available(name: str) -> bool:
    """Whether the extra of a format is installed."""
    try:
        FORMATS[name].check_installed()
    except UserError:
        return False
    return True


def test_trials_and_baselines_are_measured(searched: Searched) -> None:
    client = connect(searched.context.uri)
    assert searched.corpus.labels == tuple(TOPICS)
    assert searched.best.metrics["best_val_accuracy"] > 0.7
    assert searched.best.metrics["best_val_loss"] < 1.2
    baselines = {each.name: each for each in read_baselines(client, searched.found)}
    validated = searched.corpus.train.labels[-48:]
    majority = float((validated == 0).mean())
    assert baselines[MAJORITY].metrics["best_val_accuracy"] == pytest.approx(majority)
    assert baselines[LINEAR].metrics["best_val_accuracy"] > majority + 0.2


def test_the_validation_keeps_the_shares(searched: Searched) -> None:
    expected = np.array(list(COUNTS.values())) * 0.8
    found = np.bincount(searched.corpus.train.labels)
    np.testing.assert_array_equal(found, expected.round())
    assert np.abs(np.bincount(searched.corpus.train.labels[-48:]) - expected * 0.2).max() <= 2


def test_what_is_recorded_is_what_the_saved_model_predicts(searched: Searched) -> None:
    client, best, train = connect(searched.context.uri), searched.best, searched.corpus.train
    spec = TrialSpec(best.params, searched.corpus.folder, Path())
    model = fetch(searched)
    rows = validation_rows(spec)
    predicted = probabilities(model, train, rows, best.params, padded=False)
    assert predicted.shape == (48, 5)
    np.testing.assert_allclose(predicted.sum(axis=1), 1, atol=1e-5)
    right = predicted.argmax(axis=1) == train.labels[rows]
    epoch = int(best.metrics["best_epoch"]) - 1
    np.testing.assert_array_equal(read_correctness(client, best.run_id)[epoch], right)
    confusion = read_confusion(client, best.run_id)
    assert confusion is not None
    assert sum(row.recall * row.reviews for row in confusion.rows) == pytest.approx(right.sum())
    assert read_stage(client, best).settings.class_weight == "balanced"


def test_the_report_has_the_confusion_matrix(searched: Searched) -> None:
    client = connect(searched.context.uri)
    data = read_report_data(client, searched.found, read_trials(client, searched.found))
    page = render(data, {})
    assert "Confusion matrix" in page
    for label in TOPICS:
        assert f'<td class="text">{label}</td>' in page


def test_exports_and_the_registered_model_name_the_labels(
    searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts_here(monkeypatch)
    folder = searched.folder / "export"
    names = [name for name in FORMATS if is_available(name)]
    api.export(searched.best, folder, searched.context, formats=names)
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["labels"] == list(TOPICS)
    assert metadata["formats"].keys() == {*names}
    assert "which of 5 labels a text has" in (folder / "README.md").read_text()
    version = api.register(searched.best, "tickets", searched.context)
    tags = connect(searched.context.uri).get_model_version("tickets", version.number).tags
    assert json.loads(tags["imdbtune.labels"]) == list(TOPICS)
    expected = list(api.predict(folder, TEXTS, searched.context, model_format="keras"))
    assert [each.label for each in expected[:2]] == ["billing", "bug"]
    for each in expected:
        assert each.ranking[0] == (each.label, each.probability)
        assert sum(share for _, share in each.ranking) == pytest.approx(1, abs=1e-5)
    for source, kind in [*((folder, name) for name in names), (version.uri, "")]:
        found = list(api.predict(source, TEXTS, searched.context, model_format=kind))
        assert [each.label for each in found] == [each.label for each in expected]
        shares = [dict(each.ranking) for each in found]
        assert shares == [pytest.approx(dict(each.ranking), abs=1e-4) for each in expected]


def test_words_are_explained_by_the_predicted_label(searched: Searched) -> None:
    (explained,) = api.explain(f"runs:/{searched.best.run_id}/model", TEXTS[:1], searched.context)
    assert explained.labels == ("all other labels", "billing")
    assert {each.word for each in explained.strongest(3) if (each.effect or 0) > 0} & {"refund"}


def test_an_ensemble_is_the_mean_of_its_members(searched: Searched, tmp_path: Path) -> None:
    corpus, params, file = searched.corpus, searched.best.params, fetch(searched)
    members = [(keras.models.load_model(file, compile=False), params) for _ in range(2)]
    averaged_model(members, params).save(path := tmp_path / "mean.keras")
    rows = np.arange(len(corpus.test))
    own, found = (
        probabilities(model, corpus.test, rows, params, padded=False) for model in (file, path)
    )
    np.testing.assert_allclose(found, own, atol=1e-5)
    metadata = {
        "parameters": params.as_dict(),
        "members": [params.as_dict(), params.as_dict()],
        "batching": "buckets",
        "labels": list(corpus.labels),
    }
    trained = Trained(path, params, True, (params, params), classes=5)
    contents = ExportContents(corpus.word_index(), metadata)
    names = [name for name in ("numpy", "onnx") if is_available(name)]
    folder = export_model(trained, names, contents, TEXTS, tmp_path / "mean")
    assert len(Predictor.load(folder, "numpy").labels) == 5


def test_a_linear_model_is_mixed_with_models_of_two_labels_only(searched: Searched) -> None:
    with pytest.raises(UserError, match="two labels only, and these reviews have 5"):
        api.ensemble(None, 1, searched.context, linear=True)


def test_balanced_weights_are_those_of_scikit_learn(searched: Searched) -> None:
    settings = TrainingSettings(class_weight="balanced")
    spec = TrialSpec(searched.best.params, searched.corpus.folder, Path(), settings)
    labels = searched.corpus.train.labels[:-48]
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    np.testing.assert_allclose(class_weights(spec), expected, rtol=1e-6)
    assert class_weights(replace(spec, settings=TrainingSettings())) is None


def test_soft_labels_and_padded_batches(searched: Searched, tmp_path: Path) -> None:
    values = {key.removeprefix("space."): v for key, v in SETTINGS.items() if "space" in key}
    config = parse_config({"space": {**values, "units": "4"}})
    params = config.space.single()
    assert params is not None
    for number, (batching, soft) in enumerate((("buckets", 0.5), ("padded", 0.0))):
        settings = TrainingSettings(epochs=1, batching=batching, class_weight="balanced")
        changed = type(params).from_values({**params.as_dict(), "soft_labels": soft})
        folder = tmp_path / str(number)
        result = train_trial(TrialSpec(changed, searched.corpus.folder, folder, settings))
        assert 0 < result.best["val_loss"] < 2
        assert result.confusion is not None


def test_an_own_model_needs_as_many_outputs(searched: Searched) -> None:
    text = (
        "import keras\nfrom keras import layers\n\n\ndef build(hp):\n"
        '    ids = keras.Input((None,), dtype="int32")\n'
        '    x = layers.GlobalMaxPooling1D()(layers.Embedding(hp.get("vocabulary"), 8)(ids))\n'
        '    model = keras.Model(ids, layers.Dense(OUTPUTS, activation="softmax")(x))\n'
        '    model.compile("adam", loss="LOSS", metrics=["accuracy"])\n'
        "    return model\n"
    )
    source = str(searched.folder / "tickets.csv")
    losses = ("categorical_crossentropy", "sparse_categorical_crossentropy")
    for outputs, loss in ((5, losses[0]), (5, losses[1]), (4, losses[1])):
        file = searched.folder / "own.py"
        file.write_text(text.replace("OUTPUTS", str(outputs)).replace("LOSS", loss))
        flags = {"model.build": f"{file}:build", "data.source": source, "space.maxlen": "20"}
        config = load_config("none", {**flags, "space.batch_size": "16", "training.epochs": "2"})
        if outputs == 5:
            trial = api.train(config, searched.context)
            assert trial.metrics["best_accuracy"] > 0.4
            continue
        with pytest.raises(UserError, match=r"shape \(batch, 4\), but the reviews have 5 labels"):
            api.train(config, searched.context)
