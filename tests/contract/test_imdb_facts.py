"""The published facts about the IMDB reviews, and Keras's own loader, on the real file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imdbtune.data.corpus import OOV, Corpus, Split
from imdbtune.data.imdb import npz_corpus
from imdbtune.data.sources import describe

FIRST = [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65, 458, 4468]
Review = np.ndarray


def keras_load_data(path: Path, num_words: int) -> list[tuple[list[Review], np.ndarray]]:
    """What ``keras.datasets.imdb.load_data`` does with the file, written out (Keras 3.15)."""
    with np.load(path, allow_pickle=True) as file:  # a file that is trusted
        arrays = {name: file[name] for name in file.files}
    rng = np.random.RandomState(113)
    splits = []
    for half in ("train", "test"):
        reviews, labels = arrays[f"x_{half}"], arrays[f"y_{half}"]
        indices = np.arange(len(reviews))
        rng.shuffle(indices)
        shifted = [np.array([-2, *review]) + 3 for review in reviews[indices]]
        cut = [np.where(review < num_words, review, 2) for review in shifted]
        splits.append((cut, labels[indices]))
    return splits


@pytest.fixture(scope="module")
def keras_splits(shared_data: Path) -> list[tuple[list[Review], np.ndarray]]:
    return keras_load_data(shared_data / "imdb.npz", num_words=10_000)


def test_the_first_review(real_corpus: Corpus) -> None:
    first = real_corpus.train[0]
    assert first[:12].tolist() == FIRST
    assert len(first) == 218


def test_rows_labels_and_lengths(real_corpus: Corpus) -> None:
    facts = describe(real_corpus)
    assert (facts["name"], facts["vocabulary"]) == ("imdb", 88_584)
    for half, mean in (("train", 238.7), ("test", 230.8)):
        split = facts[half]
        assert (split["rows"], split["positive"], split["negative"]) == (25_000, 12_500, 12_500)
        assert round(split["length_mean"], 1) == mean
    assert facts["train"]["length_median"] == 178


@pytest.mark.parametrize("half", [0, 1], ids=["train", "test"])
def test_every_token_and_label_is_that_of_keras(
    real_corpus: Corpus, keras_splits: list[tuple[list[Review], np.ndarray]], half: int
) -> None:
    split: Split = (real_corpus.train, real_corpus.test)[half]
    reviews, labels = keras_splits[half]
    assert split.lengths.tolist() == [len(review) for review in reviews]
    ours = np.where(split.tokens < 10_000, split.tokens, OOV)
    np.testing.assert_array_equal(ours, np.concatenate(reviews))
    np.testing.assert_array_equal(split.labels, labels)


def test_the_word_index_reads_the_reviews(real_corpus: Corpus) -> None:
    words = {rank + 3: word for word, rank in real_corpus.word_index().items()}
    text = " ".join(words[token] for token in real_corpus.train[0][1:9].tolist())
    assert text == "this film was just brilliant casting location scenery"


def test_opening_again_converts_nothing(
    shared_data: Path, real_cache: Path, real_corpus: Corpus
) -> None:
    before = (real_corpus.folder / "meta.json").stat().st_mtime_ns
    again = npz_corpus(shared_data / "imdb.npz", real_cache)
    assert again.digest == real_corpus.digest
    assert (again.folder / "meta.json").stat().st_mtime_ns == before
