"""What the demo corpus promises: counting words fails on it, reading them in order does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import pad
from imdbtune.data.corpus import INDEX_FROM, Corpus, Split

MAXLEN = 128


def test_a_bag_of_words_is_right_four_times_in_five_at_most(demo: Corpus) -> None:
    from sklearn.linear_model import LogisticRegression

    x, x_test = (_counts(split) for split in (demo.train, demo.test))
    y, y_test = demo.train.labels, demo.test.labels
    accuracies = {
        c: LogisticRegression(C=c, solver="liblinear").fit(x, y).score(x_test, y_test)
        for c in (0.1, 1.0)
    }
    assert max(accuracies.values()) <= 0.80, accuracies


def _counts(split: Split) -> Any:
    """How often each word occurs in each review."""
    from scipy.sparse import csr_matrix

    tokens = np.concatenate([split[row] for row in range(len(split))])
    offsets = np.concatenate([[0], np.cumsum(split.lengths)])
    counts = csr_matrix((np.ones(len(tokens)), tokens, offsets), (len(split), 10_000))
    counts.sum_duplicates()
    return counts


def test_a_small_gru_reads_what_the_words_mean_together(demo: Corpus) -> None:
    import keras

    vocabulary = len(demo.word_index()) + INDEX_FROM + 1
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Embedding(vocabulary, 16, mask_zero=True),
            keras.layers.GRU(16),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    adam = keras.optimizers.Adam(6e-3)
    model.compile(adam, "binary_crossentropy", metrics=["accuracy"], jit_compile=True)
    x, x_test = (_padded(split, vocabulary) for split in (demo.train, demo.test))
    model.fit(x, demo.train.labels, batch_size=32, epochs=3, verbose=0)
    _, accuracy = model.evaluate(x_test, demo.test.labels, batch_size=250, verbose=0)
    assert accuracy > 0.93


def _padded(split: Split, vocabulary: int) -> npt.NDArray[Any]:
    return pad(split, np.arange(len(split)), MAXLEN, vocabulary)
