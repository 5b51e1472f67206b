"""What the demo corpus promises: counting words fails on it, reading them in order does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import pad
from imdbtune.data.corpus import INDEX_FROM, Corpus, Split
from imdbtune.data.demo import demo_texts
from imdbtune.data.text import split_words

MAXLEN = 200


def test_a_bag_of_words_is_right_four_times_in_five_at_most() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = demo_texts()
    count = CountVectorizer(tokenizer=split_words, token_pattern=None, lowercase=False)
    x, x_test = count.fit_transform([t for t, _ in train]), count.transform([t for t, _ in test])
    y, y_test = ([label for _, label in half] for half in (train, test))
    accuracies = {
        c: LogisticRegression(C=c, solver="liblinear").fit(x, y).score(x_test, y_test)
        for c in (0.01, 0.1, 1.0, 10.0)
    }
    assert max(accuracies.values()) <= 0.80, accuracies


def test_a_small_gru_reads_what_the_words_mean_together(demo: Corpus) -> None:
    import keras

    vocabulary = len(demo.word_index()) + INDEX_FROM + 1
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Embedding(vocabulary, 32, mask_zero=True),
            keras.layers.GRU(32),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    adam = keras.optimizers.Adam(3e-3)
    model.compile(adam, "binary_crossentropy", metrics=["accuracy"], jit_compile=True)
    x, x_test = (_padded(split, vocabulary) for split in (demo.train, demo.test))
    model.fit(x, demo.train.labels, batch_size=32, epochs=4, verbose=0)
    _, accuracy = model.evaluate(x_test, demo.test.labels, batch_size=250, verbose=0)
    assert accuracy > 0.93


def _padded(split: Split, vocabulary: int) -> npt.NDArray[Any]:
    return pad(split, np.arange(len(split)), MAXLEN, vocabulary)
