"""Soft labels, from linear models that are trained on 240 reviews of a few words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune.data.corpus import START, Corpus, make_split, write_corpus
from imdbtune.errors import TrialFailed
from imdbtune.models import nb_linear
from imdbtune.training import soft_labels

COUNT = 200
GOOD, BAD = 4, 5


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A word tells the label, but every tenth label is wrong."""
    rng = np.random.default_rng(0)
    said = np.arange(240) % 2
    reviews = [[START, GOOD if good else BAD, *rng.integers(6, 20, 5)] for good in said]
    labels = np.where(np.arange(240) % 10 == 7, 1 - said, said)
    half = make_split(reviews, labels)
    return write_corpus(tmp_path / "cache" / "corpus", "small", "A small corpus", half, half, {})


def test_an_opinion_is_of_one_that_has_not_seen_the_label(corpus: Corpus) -> None:
    """It knows the words, and nothing of the wrong labels; one that was trained on them does."""
    found = soft_labels.out_of_fold_probabilities(corpus.folder, COUNT)
    said = np.arange(COUNT) % 2
    assert found.shape == (COUNT,)
    assert ((found > 0.5) == said).mean() > 0.97


def test_each_part_is_told_by_a_model_of_the_others(corpus: Corpus) -> None:
    found = soft_labels.out_of_fold_probabilities(corpus.folder, COUNT)
    split = corpus.train.head(COUNT)
    for fold in range(soft_labels.FOLDS):
        others = [row for row in range(COUNT) if row % soft_labels.FOLDS != fold]
        part = [row for row in range(COUNT) if row % soft_labels.FOLDS == fold]
        model = nb_linear.fit(make_split([split[i] for i in others], split.labels[others]))
        told = nb_linear.predict(model, make_split([split[i] for i in part], split.labels[part]))
        np.testing.assert_allclose(found[part], told, rtol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_labels_are_softened_and_stay_on_their_side(share: float, corpus: Corpus) -> None:
    made = soft_labels.soft_labels(corpus.folder, COUNT, share)
    assert made is not None
    labels = corpus.train.labels[:COUNT]
    opinions = soft_labels.out_of_fold_probabilities(corpus.folder, COUNT)
    np.testing.assert_allclose(made, (1 - share) * labels + share * opinions, rtol=1e-5)
    assert ((made > 0.5) == labels).all()
    assert made.dtype == np.float32


def test_without_a_share_nothing_is_made(corpus: Corpus) -> None:
    assert soft_labels.soft_labels(corpus.folder, COUNT, 0.0) is None
    assert [path.name for path in corpus.folder.parent.iterdir()] == ["corpus"]


def test_a_part_is_made_once_also_where_several_want_it(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = nb_linear.fit, []
    monkeypatch.setattr(nb_linear, "fit", lambda split: made.append(len(split)) or real(split))
    with ThreadPoolExecutor(3) as pool:
        every = list(
            pool.map(
                lambda _: soft_labels.out_of_fold_probabilities(corpus.folder, COUNT), range(3)
            )
        )
    assert made == [160] * 5
    np.testing.assert_array_equal(every[0], every[1])
    soft_labels.out_of_fold_probabilities(corpus.folder, COUNT - 20)
    assert len(made) == 10


def test_what_cannot_be_read_is_made_again(corpus: Corpus) -> None:
    first = soft_labels.out_of_fold_probabilities(corpus.folder, COUNT)
    kept = sorted(corpus.folder.parent.glob("opinions-*.npy"))
    assert len(kept) == 5
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    kept[1].write_bytes(b"")
    np.save(kept[2], np.zeros(3, np.float32))
    np.save(kept[3], np.array([{"a": 1}], object), allow_pickle=True)
    np.testing.assert_array_equal(
        soft_labels.out_of_fold_probabilities(corpus.folder, COUNT), first
    )
    assert sorted(corpus.folder.parent.glob("opinions-*.npy")) == kept


def test_a_cache_that_cannot_be_written_does_not_matter(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    def read(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        return refuse() if "w" in mode else real(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", read)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert len(soft_labels.out_of_fold_probabilities(corpus.folder, COUNT)) == COUNT


def test_too_few_reviews_fail_the_trial(corpus: Corpus) -> None:
    with pytest.raises(TrialFailed, match="no soft labels: "):
        soft_labels.out_of_fold_probabilities(corpus.folder, 1)
