from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from imdbtune.data import demo as demo_module
from imdbtune.data.corpus import INDEX_FROM, Corpus, Split
from imdbtune.data.demo import demo_corpus, demo_texts
from imdbtune.data.demo_phrases import TITLES
from imdbtune.data.demo_reviews import Review
from imdbtune.data.text import Tokenizer, build_word_index
from imdbtune.errors import UserError
from tests.support import demo_cache

DIGESTS = {1: "202fd5dce1f1f683b1f55907ba6895b3ab9c9d2bd284f35c3e3af506a7bba1d2"}


@pytest.fixture(scope="module")
def corpus(demo: Corpus) -> Corpus:
    return demo


@pytest.fixture(scope="module")
def texts() -> tuple[list[Review], list[Review]]:
    return demo_texts()


def test_what_is_generated_changes_only_with_the_version(corpus: Corpus) -> None:
    assert corpus.digest == DIGESTS[demo_module.DEMO_VERSION], (
        "raise DEMO_VERSION and add the digest"
    )


def test_the_corpus_says_that_it_is_generated(corpus: Corpus) -> None:
    assert corpus.name == "demo"
    assert "generated" in corpus.title


def test_it_is_generated_once(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(demo_module, "_generate")
    again = demo_corpus(demo_cache())
    assert again.folder == corpus.folder
    assert corpus.folder == demo_cache() / "corpora" / f"demo-v{demo_module.DEMO_VERSION}"
    assert again.digest == corpus.digest


def test_every_part_of_a_split_is_balanced(corpus: Corpus) -> None:
    assert (len(corpus.train), len(corpus.test)) == (4_000, 1_000)
    for split in (corpus.train, corpus.test):
        assert (split.labels.reshape(-1, 100).sum(axis=1) == 50).all()


@pytest.mark.parametrize("half", [0, 1], ids=["train", "test"])
def test_encoding_a_text_gives_its_row(
    corpus: Corpus, texts: tuple[list[Review], list[Review]], half: int
) -> None:
    split: Split = (corpus.train, corpus.test)[half]
    tokenizer = Tokenizer(corpus.word_index())
    vocabulary = len(tokenizer.word_index) + INDEX_FROM + 1
    assert len(texts[half]) == len(split)
    for i, (text, label) in enumerate(texts[half]):
        assert np.array_equal(tokenizer.encode(text, vocabulary), split[i])
        assert label == split.labels[i]


def test_the_word_index_is_that_of_the_training_texts(
    corpus: Corpus, texts: tuple[list[Review], list[Review]]
) -> None:
    assert corpus.word_index() == build_word_index(text for text, _ in texts[0])
    assert 300 < len(corpus.word_index()) < 2_000


def test_no_review_comes_twice_in_words(corpus: Corpus) -> None:
    rows = [split[i].tobytes() for split in (corpus.train, corpus.test) for i in range(len(split))]
    assert len(set(rows)) == len(rows)


def test_test_reviews_are_of_other_films(texts: tuple[list[Review], list[Review]]) -> None:
    train, test = (" ".join(text for text, _ in half) for half in texts)
    titles = [title for title in TITLES if title in test]
    assert len(titles) > 50
    assert not [title for title in titles if title in train]


def test_lengths_are_those_of_short_reviews_with_a_long_tail(corpus: Corpus) -> None:
    lengths = corpus.train.lengths - 1
    assert lengths.min() >= 15
    assert 180 <= lengths.max() <= 250
    assert np.median(lengths) < lengths.mean() < 100


def test_sentences_are_whole(texts: tuple[list[Review], list[Review]]) -> None:
    for text, _ in texts[0][:500]:
        assert "{" not in text
        assert text[0].isupper()
        assert text[-1] in ".!"
        assert not re.search(r"\ba [aeiou]", text)  # an awful, an elegant


def test_a_cache_that_cannot_be_written_is_the_users_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        demo_corpus(tmp_path / "file")
