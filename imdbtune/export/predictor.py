"""Reviews as raw text to probabilities, from an export folder in any format."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.batches import Batches, pad
from imdbtune.data.corpus import LABELS, make_split
from imdbtune.data.text import Tokenizer
from imdbtune.errors import UserError, unknown_choice
from imdbtune.export.folder import Export, damaged, read_export
from imdbtune.export.format import Format, Run
from imdbtune.export.formats import FORMATS
from imdbtune.files import require_regular_files
from imdbtune.models.safe_load import load_failure_reason

IntArray = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]

CHUNK = 2048  # reviews that are sorted by length together
BATCH = 256  # reviews that the model sees at once; the fastest of 128 to 1,024 on two cores
POSITIVE_FROM = 0.5


@dataclass(frozen=True)
class Prediction:
    """What the model says about one review."""

    text: str
    probability: float  # that the review is positive
    label: str  # "positive" or "negative", or what the corpus calls them


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model with all it needs to read text."""

    run: Run  # ids (batch, time) to probabilities (batch, 1)
    tokenizer: Tokenizer
    vocabulary: int
    maxlen: int
    padded: bool  # the model does not mask padding: it must always see maxlen ids
    labels: tuple[str, str] = LABELS  # the negative one and the positive one

    @classmethod
    def load(cls, folder: Path, name: str = "") -> Predictor:
        """Open an export folder, in the format ``name`` or else in the first that it has.

        Raises:
            UserError: the folder is no export, has no such format, or something in it is missing,
                damaged or unsafe.
        """
        return cls._of(read_export(folder), name)

    @classmethod
    def of_file(
        cls,
        folder: Path,
        params: TrialParams,
        word_index: dict[str, int],
        padded: bool,
        labels: tuple[str, str] = LABELS,
    ) -> Predictor:
        """Predict by the ``model.keras`` in a folder that has nothing of an export beside it.

        Raises:
            UserError: there are no words, or the file is missing, damaged or unsafe.
        """
        if not word_index:
            raise UserError("the corpus has no word index, so the model cannot read text.")
        export = Export(
            folder=folder,
            metadata={},
            formats={"keras": {}},
            word_index=word_index,
            vocabulary=params.vocabulary,
            maxlen=params.maxlen,
            batching="padded" if padded else "buckets",
            labels=labels,
        )
        return cls._of(export)

    @classmethod
    def _of(cls, export: Export, name: str = "") -> Predictor:
        return cls(
            run=_load(export, _chosen(export, name)),
            tokenizer=Tokenizer(export.word_index),
            vocabulary=export.vocabulary,
            maxlen=export.maxlen,
            padded=export.batching == "padded",
            labels=export.labels,
        )

    def probabilities(self, texts: Iterable[str], batch_size: int = BATCH) -> Iterator[float]:
        """The probability that each text is positive, in the order of the texts.

        The texts are read in chunks of ``CHUNK``, of which only the last ``maxlen`` ids are kept,
        so any number takes the same memory. While the model works on a chunk, the next one is
        read. No text is an error, and none changes the probability of another.
        """
        reviews = (self.tokenizer.encode(text, self.vocabulary)[-self.maxlen :] for text in texts)
        with ThreadPoolExecutor(1) as model:
            under_way: list[Future[list[float]]] = []
            while chunk := list(itertools.islice(reviews, CHUNK)):
                under_way.append(model.submit(self._run_all, self._batches(chunk, batch_size)))
                if under_way[1:]:
                    yield from under_way.pop(0).result()
            for last in under_way:
                yield from last.result()

    def predictions(self, texts: Iterable[str], batch_size: int = BATCH) -> Iterator[Prediction]:
        """The texts with their probabilities and labels, as :meth:`probabilities`."""
        texts, to_predict = itertools.tee(texts)
        for text, probability in zip(
            texts, self.probabilities(to_predict, batch_size), strict=True
        ):
            yield self.prediction(text, probability)

    def prediction(self, text: str, probability: float) -> Prediction:
        """A probability with its label."""
        return Prediction(text, probability, self.labels[probability >= POSITIVE_FROM])

    def of_ids(self, reviews: list[IntArray]) -> list[float]:
        """The probability of each review given as ids, at most ``maxlen`` each."""
        chunks = (reviews[i : i + CHUNK] for i in range(0, len(reviews), CHUNK))
        return [chance for chunk in chunks for chance in self._run_all(self._batches(chunk, BATCH))]

    def _batches(self, reviews: list[IntArray], batch_size: int) -> list[tuple[Index, IntArray]]:
        """Like length with like; the columns that are padding in a whole batch are left out.

        They are made before the model runs: whoever needs Python for each of them, beside a thread
        that reads text, waits longer than the model takes.
        """
        split = make_split(reviews, np.zeros(len(reviews)))
        rows = np.arange(len(split))
        batches = []
        for batch in Batches(split, rows, batch_size, self.maxlen, self.vocabulary).plan():
            longest = self.maxlen if self.padded else int(split.lengths[batch].max())
            batches.append((batch, pad(split, batch, longest, self.vocabulary)))
        return batches

    def _run_all(self, batches: list[tuple[Index, IntArray]]) -> list[float]:
        """The probability of each row."""
        result = np.empty(sum(len(rows) for rows, _ in batches), np.float32)
        for rows, ids in batches:
            result[rows] = self.run(ids)[:, 0]
        return list(map(float, result))


def _chosen(export: Export, name: str) -> Format:
    there = [known for known in FORMATS if known in export.formats]
    if name and name not in there:
        raise unknown_choice(f"format of {export.folder}", name, there)
    if not there:
        raise damaged(export.folder, f"it is in none of the formats {', '.join(FORMATS)}.")
    return FORMATS[name or there[0]]


def _load(export: Export, chosen: Format) -> Run:
    """The model as one function, tried on one review."""
    chosen.check_installed()
    try:
        require_regular_files(export.folder / chosen.files[0])
        run = chosen.load(export)
        probe = run(np.full((1, export.maxlen), export.vocabulary - 1, np.int32))
    except UserError:
        raise
    except Exception as error:  # libraries raise whatever the damage led to
        what = f"{chosen.files[0]} cannot be used ({load_failure_reason(error)})."
        raise damaged(export.folder, what) from error
    if probe.shape != (1, 1) or not np.isfinite(probe).all():
        raise damaged(
            export.folder, f"{chosen.files[0]} does not give one probability for a review."
        )
    return run
