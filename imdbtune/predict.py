"""Reviews as raw text to probabilities, from an export folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.data.batches import Batches, pad
from imdbtune.data.corpus import make_split
from imdbtune.data.text import Tokenizer
from imdbtune.errors import UserError
from imdbtune.export.folder import Export, damaged, read_export
from imdbtune.export.keras_format import MODEL, MODEL_FORMAT
from imdbtune.keras_file import load_keras, reason

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]

CHUNK = 2048  # reviews that are sorted by length together
BATCH = 256  # reviews that the model sees at once; the fastest of 128 to 1,024 on two cores
POSITIVE_FROM = 0.5


@dataclass(frozen=True)
class Prediction:
    """What the model says about one review."""

    text: str
    probability: float  # that the review is positive
    label: str  # "positive" or "negative"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model with all it needs to read text."""

    run: Callable[[IntArray], FloatArray]  # ids (batch, time) to probabilities (batch, 1)
    tokenizer: Tokenizer
    vocabulary: int
    maxlen: int
    padded: bool  # the model does not mask padding: it must always see maxlen ids

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Open an export folder.

        Raises:
            UserError: the folder is no export, or something in it is missing, damaged or unsafe.
        """
        export = read_export(folder)
        if export.model_format != MODEL_FORMAT:
            raise UserError(
                f"{folder} is an export for {export.model_format}; imdbtune predicts from exports "
                f"in the format {MODEL_FORMAT} only."
            )
        return cls(
            run=_load_model(export),
            tokenizer=Tokenizer(export.word_index),
            vocabulary=export.vocabulary,
            maxlen=export.maxlen,
            padded=export.batching == "padded",
        )

    def probabilities(self, texts: Iterable[str], batch_size: int = BATCH) -> Iterator[float]:
        """The probability that each text is positive, in the order of the texts.

        The texts are read in chunks of ``CHUNK``, of which only the last ``maxlen`` ids are kept,
        so any number takes the same memory. No text is an error, and none changes the
        probability of another.
        """
        reviews = (self.tokenizer.encode(text, self.vocabulary)[-self.maxlen :] for text in texts)
        while chunk := list(itertools.islice(reviews, CHUNK)):
            yield from self._chunk(chunk, batch_size)

    def predictions(self, texts: Iterable[str], batch_size: int = BATCH) -> Iterator[Prediction]:
        """The texts with their probabilities and labels, as :meth:`probabilities`."""
        texts, to_predict = itertools.tee(texts)
        for text, probability in zip(
            texts, self.probabilities(to_predict, batch_size), strict=True
        ):
            label = "positive" if probability >= POSITIVE_FROM else "negative"
            yield Prediction(text, probability, label)

    def _chunk(self, reviews: list[IntArray], batch_size: int) -> list[float]:
        """Like length with like; the columns that are padding in a whole batch are left out."""
        split = make_split(reviews, np.zeros(len(reviews)))
        rows = np.arange(len(split))
        result = np.empty(len(split), np.float32)
        for batch in Batches(split, rows, batch_size, self.maxlen, self.vocabulary).plan():
            longest = self.maxlen if self.padded else int(split.lengths[batch].max())
            result[batch] = self.run(pad(split, batch, longest, self.vocabulary))[:, 0]
        return list(map(float, result))


def _load_model(export: Export) -> Callable[[IntArray], FloatArray]:
    """The model as one function for every batch size and length, traced once."""
    try:
        model = load_keras(export.folder / MODEL)
    except UserError as error:
        raise damaged(export.folder, str(error)) from error
    import tensorflow as tf

    try:
        signature = [tf.TensorSpec((None, None), tf.int32)]
        graph = tf.function(lambda ids: model(ids, training=False), input_signature=signature)
        probe = graph(np.full((1, export.maxlen), export.vocabulary - 1, np.int32)).numpy()
    except Exception as error:  # Keras raises whatever the damage led to
        raise damaged(export.folder, f"{MODEL} cannot be used ({reason(error)}).") from error
    if probe.shape != (1, 1) or not np.isfinite(probe).all():
        raise damaged(export.folder, f"{MODEL} does not give one probability for a review.")

    def run(ids: IntArray) -> FloatArray:
        probabilities: FloatArray = graph(ids).numpy()
        return probabilities

    return run
