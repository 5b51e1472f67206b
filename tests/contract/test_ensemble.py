"""An average of models is a model: plain layers, one file, each member as it is by itself."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest

from imdbtune.config.extensions import FORMATS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.batches import pad, validation_split
from imdbtune.data.corpus import OOV, Corpus, make_split
from imdbtune.errors import ExportFailed, UserError
from imdbtune.export.folder import read_export
from imdbtune.export.format import Trained
from imdbtune.export.formats import export_model
from imdbtune.export.predictor import Predictor
from imdbtune.export.writing import ExportContents
from imdbtune.models import hashed_ngrams, nb_linear, numpy_reference
from imdbtune.models.builders import plain_model
from imdbtune.models.ensembles import linear_part, member_models, weights_of_mix
from imdbtune.models.metrics.metric import measure
from imdbtune.models.mix_weights import cross_fitted, fit_weights, from_metrics, logits_of_mix, mix
from imdbtune.models.nb_linear import LinearModel, as_table
from imdbtune.models.nb_linear_keras import linear_network, table_of
from imdbtune.models.safe_load import load_keras
from imdbtune.search.ensemble import check_members
from imdbtune.search.ensemble_tags import description, read_members, write_members
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Search, Trial
from imdbtune.tracking.logged_models import save_model
from imdbtune.training.ensemble import EnsembleSpec, common_params
from imdbtune.training.evaluation import probabilities
from imdbtune.training.spec import TrainingSettings, TrialResult, TrialSpec
from tests.averaged import PARAMS, REVIEWS, TWO, WEIGHTS, save_members, small_linear

pytestmark = pytest.mark.xdist_group("ensemble")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return save_members(tmp_path_factory.mktemp("members"))


ROWS = {True: validation_split(REVIEWS)[1], False: np.arange(REVIEWS)}  # by whether it holds out


def average(
    members: tuple[Path, ...], demo: Corpus, folder: Path, hold_out: bool = True
) -> TrialResult:
    settings = TrainingSettings(reviews=REVIEWS, hold_out=hold_out)
    spec = TrialSpec(common_params(PARAMS), demo.folder, folder, settings=settings)
    return EnsembleSpec(members, PARAMS)(spec, lambda execution, epoch: None)


@pytest.fixture(scope="module")
def measured(
    members: tuple[Path, ...], demo: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> TrialResult:
    """The average of all members, measured on the held-out reviews."""
    return average(members, demo, tmp_path_factory.mktemp("mean"))


@pytest.fixture(scope="module")
def averaged(measured: TrialResult) -> Path:
    return measured.model


@pytest.fixture(scope="module")
def alone(members: tuple[Path, ...], demo: Corpus) -> list[npt.NDArray[np.float64]]:
    """What each member answers to the reviews by itself."""
    return [
        probabilities(file, demo.train, ROWS[False], params, padded=False)
        for file, params in zip(members, PARAMS, strict=True)
    ]


def test_the_average_answers_the_mean_of_what_its_members_answer(
    demo: Corpus,
    members: tuple[Path, ...],
    alone: list[npt.NDArray[np.float64]],
    measured: TrialResult,
    tmp_path: Path,
) -> None:
    common = common_params(PARAMS)
    assert (common.maxlen, common.vocabulary) == (60, 800)
    on_all = average(members, demo, tmp_path, hold_out=False)
    together = probabilities(on_all.model, demo.train, ROWS[False], common, padded=False)
    mean = np.mean(alone, axis=0)
    assert np.ptp(together) > 0.01
    np.testing.assert_allclose(together, mean, atol=1e-6)
    for hold_out, result in ((True, measured), (False, on_all)):
        rows = ROWS[hold_out]
        expected = measure(demo.train.labels[rows], mean[rows])
        prefix = "val_" if hold_out else ""
        assert result.score == expected["accuracy"] == result.best[f"{prefix}accuracy"]
        assert result.best[f"{prefix}loss"] == pytest.approx(expected["loss"], abs=1e-6)


def test_it_opens_as_a_model_of_mlflow(averaged: Path, tmp_path: Path) -> None:
    save_model(averaged, tmp_path / "mlflow")  # with its example
    assert (tmp_path / "mlflow" / "MLmodel").exists()


def test_its_members_come_out_of_its_file_as_they_went_in(
    averaged: Path, members: tuple[Path, ...]
) -> None:
    networks = Trained(averaged, common_params(PARAMS), True, PARAMS).networks()
    assert [network.params for network in networks] == list(PARAMS)
    for network, file, params in zip(networks, members, PARAMS, strict=True):
        (alone,) = Trained(file, params, masked=True).networks()
        assert alone.weights.keys() == network.weights.keys()
        for name, array in alone.weights.items():
            np.testing.assert_array_equal(network.weights[name], array)
    assert member_models(plain_model(PARAMS[0])) == []
    assert linear_part(plain_model(PARAMS[0])) is None


# Reviews that say a thing twice, are one word long, have an unknown word, or are long.
ODD = (
    *([1], [1, 4], [1, 4, 4, 4], [1, 7, 4, 9, 7, 4, 9], [1, 5, 6, 5, 6, 5], [1, 4, OOV, 4, 7, 9]),
    [1, 4, 5, *[8, 9] * hashed_ngrams.END, 7],
)


@pytest.fixture(scope="module")
def linear(demo: Corpus) -> LinearModel:
    return small_linear(demo)


def test_the_linear_model_says_as_a_network_what_it_says_by_itself(
    demo: Corpus, linear: LinearModel
) -> None:
    split = make_split([*ODD, *(demo.test[row] for row in range(40))], [0] * (len(ODD) + 40))
    table = as_table(linear)
    ids = pad(split, np.arange(len(split)), int(split.lengths.max()) + 3, 100_000)
    told = nb_linear.predict(linear, split)
    assert np.ptp(told) > 0.5
    network = linear_network(table)
    np.testing.assert_allclose(network(ids).numpy()[:, 0], told, atol=1e-5)
    np.testing.assert_allclose(numpy_reference.linear(table[:, None], ids)[:, 0], told, atol=1e-5)
    for row, review in enumerate(ODD):  # alone, without padding
        alone = network(np.array([review], np.int32)).numpy()[0, 0]
        assert alone == pytest.approx(told[row], abs=1e-5)
    np.testing.assert_array_equal(table_of(network), table[:, None])


def test_ids_beyond_the_largest_vocabulary_are_unknown_words(linear: LinearModel) -> None:
    words = make_split([[1, 4, OOV, 7], [1, 4, hashed_ngrams.VOCABULARY + 5, 7]], [0, 0])
    unknown, beyond = nb_linear.predict(linear, words)
    assert unknown == beyond


def test_a_mix_adds_the_logits_by_their_weights(
    alone: list[npt.NDArray[np.float64]], linear: LinearModel, demo: Corpus, with_linear: Path
) -> None:
    """The tests of the formats export it."""
    common = common_params(TWO, linear=True)
    assert (common.maxlen, common.vocabulary) == (5000, 100_000)
    rows = ROWS[True]
    logits = mixed_logits(alone, linear, demo)[rows]
    together = probabilities(with_linear, demo.train, rows, common, padded=False)
    np.testing.assert_allclose(together, mix(logits, np.array(WEIGHTS)), atol=1e-5)
    network = Trained(with_linear, common, True, TWO).mix()
    assert network is not None
    each, of_linear = WEIGHTS[0] / len(TWO), WEIGHTS[1]
    np.testing.assert_allclose(network.weights[:, 0], [each, each, of_linear])


def mixed_logits(
    alone: list[npt.NDArray[np.float64]], linear: LinearModel, demo: Corpus
) -> npt.NDArray[np.float64]:
    """What two members and the linear model answer to all reviews."""
    of_linear = nb_linear.predict(linear, demo.train.head(REVIEWS))
    return logits_of_mix(alone[: len(TWO)], of_linear)


def test_weights_are_fitted_to_held_out_reviews_and_measured_by_cross_fitting(
    members: tuple[Path, ...],
    alone: list[npt.NDArray[np.float64]],
    linear: LinearModel,
    demo: Corpus,
    tmp_path: Path,
) -> None:
    rows = ROWS[True]
    logits = mixed_logits(alone, linear, demo)[rows]
    labels = demo.train.labels[rows]
    settings = TrainingSettings(reviews=REVIEWS)
    spec = TrialSpec(common_params(TWO, linear=True), demo.folder, tmp_path, settings=settings)
    result = EnsembleSpec(members[: len(TWO)], TWO, linear)(spec, lambda execution, epoch: None)
    expected = cross_fitted(logits, labels)
    assert result.best["val_loss"] == pytest.approx(measure(labels, expected)["loss"], abs=1e-5)
    np.testing.assert_array_equal(result.right[0], (expected > 0.5) == (labels == 1))
    weights = from_metrics(result.best)
    np.testing.assert_allclose(weights, fit_weights(logits, labels), atol=1e-4)
    saved = weights_of_mix(load_keras(result.model))[:, 0]
    np.testing.assert_allclose([saved[:-1].sum(), saved[-1]], weights, rtol=1e-6)


def test_a_mix_of_an_earlier_version_is_not_written_out_by_hand(tmp_path: Path) -> None:
    ids = keras.Input((None,), dtype="int32", name="ids")
    linear = linear_network(np.zeros(9, np.float32))
    keras.Model(ids, linear(ids) / 2).save(tmp_path / "model.keras")
    with pytest.raises(ExportFailed, match="create the ensemble again"):
        Trained(tmp_path / "model.keras", PARAMS[0], True, TWO).mix()


def test_formats_that_are_written_out_by_hand_have_all_members(
    averaged: Path, demo: Corpus, tmp_path: Path
) -> None:
    """Each reads as much of a review, and as many words, as it was trained on."""
    common = common_params(PARAMS)
    trained = Trained(averaged, common, True, PARAMS)
    words = demo.word_index()
    texts = [" ".join(list(words)[n : n + 70 : 2]) for n in range(0, 600, 9)]
    metadata = {
        "run_id": "mean",
        "parameters": common.as_dict(),
        "members": [params.as_dict() for params in PARAMS],
        "batching": "buckets",
    }
    contents = ExportContents(words, metadata)
    names = ("numpy", "onnx")
    folder = export_model(trained, names, contents, texts, tmp_path / "out")
    export = read_export(folder)
    assert export.members == PARAMS
    title, _, about, *_ = (export.folder / "README.md").read_text(encoding="utf-8").splitlines()
    assert title == f"# The mean of {len(PARAMS)} models"
    assert all(f"`{params.label}`" in about for params in PARAMS)
    rows = demo.train.head(40)
    ids = pad(rows, np.arange(40), common.maxlen, common.vocabulary)
    keras_says = trained.model.predict(ids, verbose=0)
    for name in names:
        assert export.formats[name]["largest_difference"] < 5e-5
        answers = list(Predictor.load(folder, name).probabilities(texts))
        assert np.ptp(answers) > 0.01
        np.testing.assert_allclose(FORMATS[name].load(export)(ids), keras_says, atol=5e-5)


def test_an_ensemble_with_unknown_members_has_no_networks(averaged: Path) -> None:
    with pytest.raises(ExportFailed, match="create the ensemble again"):
        Trained(averaged, common_params(PARAMS), masked=True).networks()


def test_a_tag_says_what_it_is_made_of() -> None:
    assert read_members(write_members(PARAMS)) == PARAMS
    many = tuple(TrialParams(units=n + 1, learning_rate=0.001 + n / 7e5) for n in range(50))
    assert read_members(write_members(many)) == many
    assert len(write_members(many)) < 8000  # the longest that MLflow takes


@pytest.mark.parametrize(
    "tag", ["", "[", "[]", "{}", "null", '{"shared":{},"own":[{"units":-1}]}', '{"own":3}']
)
def test_a_tag_that_cannot_be_read_says_nothing(tag: str) -> None:
    assert read_members(tag) == ()


def test_models_of_folds_are_averaged_on_all_reviews_only_and_not_mixed() -> None:
    tags = {mlflow_names.FOLDS: "5"}
    runs = [Trial(f"r{n}", "gru", "FINISHED", PARAMS[n], {}, tags, 0, 0, None) for n in range(2)]
    check_members(runs, refitted=True)
    with pytest.raises(UserError, match=r"trained on all \(--refit\)\."):
        check_members(runs)
    for refitted in (False, True):
        with pytest.raises(UserError, match=r"\(--refit\), without a linear model\."):
            check_members(runs, linear=True, refitted=refitted)


def test_its_page_in_mlflow_leads_to_its_members() -> None:
    search = Search("0" * 32, "s", "FINISHED", "7", {}, {}, 0)
    runs = [Trial(f"r{n}", "gru_[1]", "FINISHED", PARAMS[0], {}, {}, 0, 0, None) for n in range(23)]
    few, many = description(search, runs[:2]), description(search, runs)
    assert few.startswith(
        "The mean probability of 2 models: [gru_\\[1\\]](#/experiments/7/runs/r0?"
    )
    assert "/runs/r1?" in few
    assert "others" not in few
    assert "23 models" in many
    assert ", 3 others." in many
    assert "/runs/r20?" not in many
    mixed = description(search, runs[:2], linear=True)
    assert mixed.startswith("A mix of a linear model on word n-grams and 2 models: [gru_")
    assert "weights among the metrics" in mixed
    assert "cross-fitting" in mixed
    refitted = description(search, runs[:2], linear=True, fitted=runs[5])
    assert "weights of [gru_\\[1\\]](#/experiments/7/runs/r5?" in refitted
