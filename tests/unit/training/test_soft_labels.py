"""Soft labels, from linear models that are trained on 240 reviews of a few words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune.data.corpus import START, Corpus, NewCorpus, make_split, write_corpus
from imdbtune.errors import TrialFailed
from imdbtune.models import nb_linear
from imdbtune.training import out_of_fold, soft_labels

COUNT = 200
GOOD, BAD = 4, 5


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """One word determines the label, but every tenth label is wrong."""
    rng = np.random.default_rng(0)
    true_labels = np.arange(240) % 2
    reviews = [[START, GOOD if good else BAD, *rng.integers(6, 20, 5)] for good in true_labels]
    labels = np.where(np.arange(240) % 10 == 7, 1 - true_labels, true_labels)
    half = make_split(reviews, labels)
    new = NewCorpus("small", "A small corpus", half, half, {})
    return write_corpus(tmp_path / "cache" / "corpus", new)


def test_out_of_fold_probabilities_do_not_follow_wrong_labels(corpus: Corpus) -> None:
    probabilities = out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT)
    true_labels = np.arange(COUNT) % 2
    assert probabilities.shape == (COUNT,)
    assert ((probabilities > 0.5) == true_labels).mean() > 0.97


def test_each_fold_is_predicted_by_a_model_of_the_others(corpus: Corpus) -> None:
    found = out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT)
    split = corpus.train.head(COUNT)
    for fold in range(out_of_fold.FOLDS):
        others = [row for row in range(COUNT) if row % out_of_fold.FOLDS != fold]
        part = [row for row in range(COUNT) if row % out_of_fold.FOLDS == fold]
        model = nb_linear.fit(make_split([split[i] for i in others], split.labels[others]))
        expected = nb_linear.predict(
            model, make_split([split[i] for i in part], split.labels[part])
        )
        np.testing.assert_allclose(found[part], expected, rtol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_soft_labels_round_to_the_labels(share: float, corpus: Corpus) -> None:
    soft = soft_labels.soft_labels(corpus.folder, COUNT, share)
    assert soft is not None
    labels = corpus.train.labels[:COUNT]
    probabilities = out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT)
    np.testing.assert_allclose(soft, (1 - share) * labels + share * probabilities, rtol=1e-5)
    assert ((soft > 0.5) == labels).all()
    assert soft.dtype == np.float32


def test_a_share_of_zero_computes_nothing(corpus: Corpus) -> None:
    assert soft_labels.soft_labels(corpus.folder, COUNT, 0.0) is None
    assert [path.name for path in corpus.folder.parent.iterdir()] == ["corpus"]


def test_concurrent_callers_compute_each_fold_once(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fitted = nb_linear.fit, []
    monkeypatch.setattr(nb_linear, "fit", lambda split: fitted.append(len(split)) or real(split))
    with ThreadPoolExecutor(3) as pool:
        every = list(
            pool.map(
                lambda _: out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT), range(3)
            )
        )
    assert fitted == [160] * 5
    np.testing.assert_array_equal(every[0], every[1])
    out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT - 20)
    assert len(fitted) == 10


def test_damaged_cache_files_are_replaced(corpus: Corpus) -> None:
    first = out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT)
    cached = sorted(corpus.folder.parent.glob("out-of-fold-*.npz"))
    assert len(cached) == 5
    cached[0].write_bytes(cached[0].read_bytes()[:100])
    cached[1].write_bytes(b"")
    np.save(cached[2], np.zeros(3, np.float32))
    np.save(cached[3], np.array([{"a": 1}], object), allow_pickle=True)
    np.testing.assert_array_equal(
        out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT), first
    )
    assert sorted(corpus.folder.parent.glob("out-of-fold-*.npz")) == cached


def test_soft_labels_do_not_need_a_writable_cache(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    def read(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        return refuse() if "w" in mode else real(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", read)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert len(out_of_fold.out_of_fold_probabilities(corpus.folder, COUNT)) == COUNT


def test_too_few_reviews_fail_the_trial(corpus: Corpus) -> None:
    with pytest.raises(TrialFailed, match="no soft labels and no n-grams: "):
        out_of_fold.out_of_fold_probabilities(corpus.folder, 1)
