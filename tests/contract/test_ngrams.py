"""Networks that read the linear model's weights of n-grams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.schema import parse_config
from imdbtune.data.batches import Batches, FloatArray
from imdbtune.data.corpus import OOV, PAD, START, Corpus, NewCorpus, make_split, write_corpus
from imdbtune.errors import TrialFailed, UserError
from imdbtune.export import formats
from imdbtune.export.format import Trained
from imdbtune.export.predictor import Predictor
from imdbtune.export.writing import ExportContents
from imdbtune.models import hashed_ngrams, nb_linear
from imdbtune.models.builders import (
    as_plain,
    fused_model,
    initialize,
    plain_model,
    plain_weights,
    with_ngrams,
)
from imdbtune.models.ngram_inputs import SCALE, input_table, inputs_by_token
from imdbtune.training.evaluation import probabilities
from imdbtune.training.fit_data import inputs_of
from imdbtune.training.out_of_fold import FOLDS
from imdbtune.training.spec import TrainingSettings, TrialSpec
from imdbtune.training.trainer import time_steps, train_trial
from tests.support import untried_exports

REVIEWS, TRAINED, WORDS = 200, 160, 40
SMALL: dict[str, Any] = {"units": 4, "embedding": 5, "maxlen": 20, "vocabulary": 30}
LONG = {"maxlen": 100}  # longer than what counts as the end of a review
PARAMS = TrialParams("gru", **SMALL, pooling="max_mean", bidirectional=True, ngrams=True)
SETTINGS = TrainingSettings(epochs=2, compile="off")
EXPORTED = ("keras", "savedmodel", "litert", "onnx", "numpy")
WORD_INDEX = {f"w{rank}": rank for rank in range(1, WORDS)}


def corpus_of(folder: Path, labels: int = 2, longest: int = 30) -> Corpus:
    """Random reviews, and labels that have nothing to do with them."""
    rng = np.random.default_rng(0)
    reviews = [[START, *rng.integers(3, WORDS, rng.integers(2, longest))] for _ in range(REVIEWS)]
    half = make_split(reviews, rng.integers(0, labels, REVIEWS))
    names = tuple("abc"[:labels]) if labels > 2 else ("negative", "positive")
    return write_corpus(folder, NewCorpus("small", "A small corpus", half, half, {}, names))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus_of(tmp_path_factory.mktemp("ngrams") / "corpus")


def spec_of(corpus: Corpus, folder: Path, **more: Any) -> TrialSpec:
    return TrialSpec(replace(PARAMS, **more), corpus.folder, folder, SETTINGS)


def sums(inputs: FloatArray, corpus: Corpus, rows: int) -> FloatArray:
    """The inputs of each review, added up."""
    each = np.split(inputs.sum(axis=1), corpus.train.offsets[1 : rows + 1])[:rows]
    return np.array([part.sum() for part in each], np.float32)


@pytest.mark.parametrize(
    ("labels", "more"), [(2, {"bigrams": 16, "skip": True, "depth": 2}), (3, LONG)], ids=str
)
def test_both_forms_of_a_model_read_the_same(
    labels: int, more: dict[str, Any], tmp_path: Path
) -> None:
    """The fused form the inputs that were computed from tokens, the plain one its own table."""
    params = replace(PARAMS, **more)
    small = corpus_of(tmp_path / "corpus", labels, params.maxlen + 10)
    linear = nb_linear.fit(small.train, labels)
    fused = fused_model(params, classes=labels)
    initialize(fused, 1)
    plain = as_plain(with_ngrams(plain_weights(fused), params, input_table(linear)), params)
    trained = plain_model(params, for_training=True, classes=labels)
    for_cudnn = plain_model(params, for_training=True, classes=labels, for_cudnn=True)
    for model in (trained, for_cudnn):
        model.set_weights(fused.get_weights())
    inputs = inputs_by_token(linear, small.train)
    batches = Batches(small.train, np.arange(32), 32, params.maxlen, 30, inputs=inputs)
    for ids, read, *_ in batches.epoch():
        expected = fused([ids, read], training=False)
        np.testing.assert_allclose(plain(ids, training=False), expected, atol=1e-6)
        for model in (trained, for_cudnn):
            np.testing.assert_allclose(model([ids, read], training=False), expected, atol=1e-6)
        assert np.abs(expected - fused([ids, 0 * read], training=False)).max() > 1e-3


def test_inputs_are_the_weights_of_words_pairs_and_triples() -> None:
    split = make_split([[START, 5, 6, 5], [START, OOV, 5]], [0, 1])
    model = nb_linear.fit(make_split([[START, 5, 6, 5], [START, 7, 8]] * 9, [0, 1] * 9))
    table = nb_linear.as_table(model)

    def weights(*words: int) -> list[float]:
        """Anywhere, and at the end."""
        kinds = [*nb_linear.occurrences(make_split([words], [0]))][2 * len(words) - 2 :][:2]
        rows = [hashed_ngrams.table_rows(keys, model.rows)[0] for _, keys in kinds]
        return [SCALE * float(table[row]) for row in rows]

    (ids, read, *_), *_ = Batches(
        split, np.arange(2), 2, 5, 30, inputs=inputs_by_token(model, split)
    ).epoch()
    first = read[ids.tolist().index([PAD, START, 5, 6, 5])]
    none = [0.0, 0.0]
    expected = [
        none * 3,
        weights(START) + weights(START, 5) + weights(START, 5, 6),
        weights(5) + weights(5, 6) + weights(5, 6, 5),
        weights(6) + weights(6, 5) + none,
        weights(5) + none * 2,
    ]
    np.testing.assert_allclose(first, expected, rtol=1e-6)
    assert np.count_nonzero(expected) == 18


def test_only_the_last_words_have_inputs_of_the_end() -> None:
    split = make_split([[START, 5, *[6] * hashed_ngrams.END]], [0])
    model = nb_linear.fit(make_split([[START, 5, 6, 6], [START, 7, 8]] * 9, [0, 1] * 9))
    found = inputs_by_token(model, split)
    assert found[:, 0].all()
    assert found[:, 1].astype(bool).tolist() == [False] * 2 + [True] * hashed_ngrams.END


def test_ngrams_that_a_window_or_the_vocabulary_cuts_are_left_out() -> None:
    split = make_split([[START, 5, 6, 7, 8]], [0])
    inputs = np.ones((5, 3), np.float32)
    (_, cut, *_), *_ = Batches(split, np.arange(1), 1, 5, 7, inputs=inputs).epoch()
    assert cut[0].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    rng = np.random.default_rng(0)
    windows = Batches(split, np.arange(1), 1, 5, 30, crop=3, inputs=inputs)
    for ids, read, *_ in windows.epoch(rng):
        assert ids.shape == (1, 3)
        assert read[0].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]


def test_a_share_of_the_inputs_is_dropped_in_training_only(corpus: Corpus) -> None:
    inputs = np.ones((len(corpus.train.tokens), 3), np.float32)
    batches = Batches(corpus.train, np.arange(64), 16, 20, 100, inputs=inputs)
    dropping = replace(batches, input_dropout=0.3, word_dropout=0.2)

    def kept(batches: Batches, rng: np.random.Generator | None = None) -> float:
        return sum(float(read.sum()) for _, read, *_ in batches.epoch(rng))

    whole = kept(batches)
    assert kept(dropping) == whole
    assert 0.65 < kept(dropping, np.random.default_rng(0)) / whole < 0.75


def test_inputs_of_training_reviews_come_from_models_of_other_reviews(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Those of a model that has seen the review would tell its label, though it is a random one."""
    inputs = inputs_of(spec_of(corpus, tmp_path))
    labels = corpus.train.labels[:TRAINED]
    whole = inputs_by_token(nb_linear.fit(corpus.train.head(TRAINED)), corpus.train)
    assert np.corrcoef(sums(whole, corpus, TRAINED), labels)[0, 1] > 0.7
    assert np.corrcoef(sums(inputs, corpus, TRAINED), labels)[0, 1] < 0.2
    rows = np.arange(TRAINED)
    others = nb_linear.fit(corpus.train.select(rows[rows % FOLDS != 2]))
    expected = inputs_by_token(others, corpus.train)
    part = slice(corpus.train.offsets[7], corpus.train.offsets[8])
    np.testing.assert_allclose(inputs[part], expected[part], rtol=1e-6)
    held_out = corpus.train.offsets[TRAINED]
    np.testing.assert_allclose(inputs[held_out:], whole[held_out:], rtol=1e-6)


@pytest.mark.parametrize("form", ["on", "off"])
def test_the_saved_model_predicts_what_was_validated(
    form: str, corpus: Corpus, tmp_path: Path
) -> None:
    spec = spec_of(corpus, tmp_path, ngram_dropout=0.3, crop=10, word_dropout=0.2)
    spec = replace(spec, settings=replace(SETTINGS, compile=form))
    result = train_trial(spec)
    rows = np.arange(TRAINED, REVIEWS)
    found = probabilities(result.model, corpus.train, rows, spec.params, padded=False)
    right = (found > 0.5) == corpus.train.labels[rows]
    assert right.tolist() == result.right[result.best_epoch - 1].tolist()
    loss = -np.log(np.where(corpus.train.labels[rows] == 1, found, 1 - found)).mean()
    assert result.best["val_loss"] == pytest.approx(loss, abs=1e-5)


def test_a_refit_reads_the_model_of_all_reviews(corpus: Corpus, tmp_path: Path) -> None:
    from imdbtune.models.safe_load import load_keras

    spec = spec_of(corpus, tmp_path)
    spec = replace(spec, settings=replace(SETTINGS, epochs=1, hold_out=False, keep_best=False))
    table = load_keras(train_trial(spec).model).get_layer("ngrams").get_weights()[0]
    np.testing.assert_allclose(table, input_table(nb_linear.fit(corpus.train)), rtol=1e-6)


def test_exports_predict_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untried_exports(monkeypatch)
    rng = np.random.default_rng(0)
    params = replace(PARAMS, bigrams=16, **LONG)
    model = plain_model(params, ngram_rows=500)
    table = rng.normal(size=(500, 1)).astype(np.float32)
    table[0] = 0.0
    weights = [w for w in plain_weights(model) if w.shape != table.shape]
    as_plain(with_ngrams(weights, params, table), params).save(tmp_path / "model.keras")
    metadata = {"parameters": params.as_dict(), "batching": "buckets"}
    lengths = {1: 20, 7: 20, 19: 20, 3: 98}
    texts = [
        " ".join(f"w{1 + n % 39}" for n in range(first, first + length))
        for first, length in lengths.items()
    ]
    folder = formats.export_model(
        Trained(tmp_path / "model.keras", params, True),
        EXPORTED,
        ExportContents(WORD_INDEX, metadata),
        texts,
        tmp_path / "export",
    )
    found = {name: list(Predictor.load(folder, name).probabilities(texts)) for name in EXPORTED}
    assert np.ptp(found["keras"]) > 1e-3
    for name in EXPORTED[1:]:
        np.testing.assert_allclose(found[name], found["keras"], rtol=0, atol=1e-5)


def test_timed_steps_need_no_linear_model(tmp_path: Path) -> None:
    small = corpus_of(tmp_path / "cache" / "corpus")
    assert time_steps(spec_of(small, tmp_path / "trial"), 0.1).steps > 0
    assert [path.name for path in small.folder.parent.iterdir()] == ["corpus"]


def test_too_few_reviews_fail_the_trial(tmp_path: Path) -> None:
    half = make_split([[START, 5], [START, 6]], [0, 0])
    new = NewCorpus("small", "A small corpus", half, half, {})
    with pytest.raises(TrialFailed, match="no n-grams: all reviews to train on have"):
        train_trial(spec_of(write_corpus(tmp_path / "corpus", new), tmp_path))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"tuner": {"kind": "random", "folds": 5}}, "folds = 5 is not possible with ngrams = true"),
        ({"training": {"batching": "padded"}}, "ngrams = true has no effect on padded batches"),
    ],
)
def test_what_has_no_inputs_is_refused(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse_config({"space": {"ngrams": True}, **more})
