"""The built-in corpus: generated film reviews whose labels depend on the order of the words.

Words of praise occur almost as often in negative reviews as in positive ones, so counting words
says little. A verdict may come first, before a long summary of the plot, or last, after opinions
that it reverses: a model gains from reading and remembering more of a review.
"""

from __future__ import annotations

from pathlib import Path

from imdbtune.data.corpus import (
    INDEX_FROM,
    Corpus,
    NewCorpus,
    Split,
    make_split,
    open_or_create,
    write_corpus,
)
from imdbtune.data.demo_reviews import Review, write_reviews
from imdbtune.data.text import Tokenizer, build_word_index

DEMO_VERSION = 1
"""Increase it with every change of the generated reviews."""

_TRAIN, _TEST = 4_000, 1_000
_TITLE = f"generated film reviews, no real ones: {_TRAIN:,} to train on, {_TEST:,} to test"


def demo_corpus(cache: Path) -> Corpus:
    """Return the demo corpus, generated into ``cache`` the first time.

    Raises:
        UserError: ``cache`` cannot be written, or the corpus in it is damaged.
    """
    folder = cache / "corpora" / f"demo-v{DEMO_VERSION}"
    return open_or_create(folder, lambda: _generate(folder))


def demo_texts() -> tuple[list[Review], list[Review]]:
    """Return the training and the test reviews, alternately negative and positive.

    They are the same on every machine. No text occurs twice, and the test reviews are about other
    films than the training reviews.
    """
    train = write_reviews(_TRAIN, seed=1, test_films=False)
    known = {text for text, _ in train}
    return train, write_reviews(_TEST, seed=2, test_films=True, exclude=known)


def _generate(folder: Path) -> Corpus:
    train, test = demo_texts()
    words = build_word_index(text for text, _ in train)
    new = NewCorpus("demo", _TITLE, _encode(train, words), _encode(test, words), words)
    return write_corpus(folder, new)


def _encode(reviews: list[Review], word_index: dict[str, int]) -> Split:
    tokenizer = Tokenizer(word_index)
    vocabulary = len(word_index) + INDEX_FROM + 1  # all words
    tokens = [tokenizer.encode(text, vocabulary) for text, _ in reviews]
    return make_split(tokens, [label for _, label in reviews])
