"""The built-in corpus: generated film reviews whose labels depend on the order of the words.

Words of praise stand almost as often in negative reviews as in positive ones, so counting words
tells little. A verdict may come first, with a long summary of the plot after it, or last, after
opinions that it overturns: reading more of a review, and remembering it, pays.
"""

from __future__ import annotations

from pathlib import Path

from imdbtune.data.cache import locked
from imdbtune.data.corpus import INDEX_FROM, Corpus, Split, make_split, read_corpus, write_corpus
from imdbtune.data.demo_reviews import Review, write_reviews
from imdbtune.data.text import Tokenizer, build_word_index

DEMO_VERSION = 1
"""Goes up with every change of what is generated."""

_TRAIN, _TEST = 4_000, 1_000
_TITLE = f"generated film reviews, no real ones: {_TRAIN:,} to train on, {_TEST:,} to test"


def demo_corpus(cache: Path) -> Corpus:
    """The demo corpus: generated into ``cache`` once, memory-mapped from then on.

    Raises:
        UserError: ``cache`` cannot be written, or the corpus in it is damaged.
    """
    folder = cache / "corpora" / f"demo-v{DEMO_VERSION}"
    if folder.is_dir():
        return read_corpus(folder)
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():  # another process was first
            return read_corpus(folder)
        return _generate(folder)


def demo_texts() -> tuple[list[Review], list[Review]]:
    """The training and the test reviews, negative and positive in turn; the same everywhere.

    No text comes twice, and the test reviews are of other films than the training reviews.
    """
    train = write_reviews(_TRAIN, seed=1, test_films=False)
    known = {text for text, _ in train}
    return train, write_reviews(_TEST, seed=2, test_films=True, but_not=known)


def _generate(folder: Path) -> Corpus:
    train, test = demo_texts()
    words = build_word_index(text for text, _ in train)
    return write_corpus(folder, "demo", _TITLE, _encode(train, words), _encode(test, words), words)


def _encode(reviews: list[Review], word_index: dict[str, int]) -> Split:
    tokenizer = Tokenizer(word_index)
    vocabulary = len(word_index) + INDEX_FROM + 1  # nothing is cut
    tokens = [tokenizer.encode(text, vocabulary) for text, _ in reviews]
    return make_split(tokens, [label for _, label in reviews])
