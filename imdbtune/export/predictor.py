"""Predict raw text with an export folder in any format."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imdbtune.config.extensions import FORMATS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.own_model import ModelSource, output_count
from imdbtune.data.batches import Batches, FloatArray, Index, IntArray, pad
from imdbtune.data.corpus import LABELS, make_split
from imdbtune.data.text import Tokenizer
from imdbtune.errors import UserError, unknown_choice
from imdbtune.export.folder import Export, damaged, read_export
from imdbtune.export.format import Format, Run
from imdbtune.export.keras_format import run_of
from imdbtune.files import require_regular_files
from imdbtune.models.safe_load import load_failure_reason, load_keras

CHUNK = 2048  # reviews sorted by length together
BATCH = 256  # batch size; the fastest of 128 to 1,024 on two cores
POSITIVE_FROM = 0.5


@dataclass(frozen=True)
class Prediction:
    """The prediction for one review."""

    text: str
    probability: float  # that the review is positive; of more than two labels, that of ``label``
    label: str  # the most probable of the corpus's labels
    # Of more than two labels, each with its probability, the most probable first.
    ranking: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model with its tokenizer and settings."""

    run: Run  # ids (batch, time) to probabilities (batch, 1), or (batch, labels)
    tokenizer: Tokenizer
    vocabulary: int
    maxlen: int
    padded: bool  # the model does not mask padding, so it must always read maxlen ids
    labels: tuple[str, ...] = LABELS  # negative, positive; or one for each column

    @classmethod
    def load(cls, folder: Path, name: str = "", trusted: bool = False) -> Predictor:
        """Load an export folder in the format ``name``, by default the first that it has.

        Args:
            folder: of the export.
            name: of the format.
            trusted: the source of a user's own model in the folder may be run.

        Raises:
            UserError: the folder is not an export, lacks the format, or a file is missing, damaged
                or unsafe.
        """
        return cls._of(read_export(folder, trusted), name)

    @classmethod
    def of_file(
        cls,
        folder: Path,
        params: TrialParams,
        word_index: dict[str, int],
        padded: bool,
        labels: tuple[str, ...] = LABELS,
        source: ModelSource | None = None,
    ) -> Predictor:
        """Load the ``model.keras`` in a folder that is not an export.

        Args:
            folder: of the file.
            params: hyperparameters of the model.
            word_index: word -> rank.
            padded: the model reads padding like words.
            labels: the meaning of probabilities 0 and 1, or of each column.
            source: of a user's own model, trusted, if the file needs it.

        Raises:
            UserError: ``word_index`` is empty, or the file is missing, damaged or unsafe.
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
        if source is not None:
            return cls._of_run(export, run_of(load_keras(folder / "model.keras", source)))
        return cls._of(export)

    @classmethod
    def _of(cls, export: Export, name: str = "") -> Predictor:
        return cls._of_run(export, _load(export, _choose_format(export, name)))

    @classmethod
    def _of_run(cls, export: Export, run: Run) -> Predictor:
        return cls(
            run=run,
            tokenizer=Tokenizer(export.word_index),
            vocabulary=export.vocabulary,
            maxlen=export.maxlen,
            padded=export.batching == "padded",
            labels=export.labels,
        )

    @property
    def columns(self) -> int:
        """The number of probabilities of a review: 1 for two labels."""
        return output_count(len(self.labels))

    def probabilities(self, texts: Iterable[str], batch_size: int = BATCH) -> Iterator[float]:
        """Yield the ``probability`` of each :class:`Prediction`, as :meth:`outputs` does."""
        return (float(row.max()) for row in self.outputs(texts, batch_size))

    def outputs(self, texts: Iterable[str], batch_size: int = BATCH) -> Iterator[FloatArray]:
        """Yield the probabilities of each text, (1,) or (labels,), in the order of the texts.

        Texts are read in chunks of ``CHUNK``, so memory does not grow with their number. The next
        chunk is read while the model runs on one. Every text is valid, and none changes the
        probabilities of another.
        """
        reviews = (self.tokenizer.encode(text, self.vocabulary)[-self.maxlen :] for text in texts)
        with ThreadPoolExecutor(1) as executor:
            pending: list[Future[FloatArray]] = []
            while chunk := list(itertools.islice(reviews, CHUNK)):
                pending.append(executor.submit(self._run_all, self._batches(chunk, batch_size)))
                if pending[1:]:
                    yield from pending.pop(0).result()
            for last in pending:
                yield from last.result()

    def predictions(self, texts: Iterable[str], batch_size: int = BATCH) -> Iterator[Prediction]:
        """Yield the prediction of each text, as :meth:`outputs` does."""
        texts, copies = itertools.tee(texts)
        for text, row in zip(texts, self.outputs(copies, batch_size), strict=True):
            yield self.prediction(text, row)

    def prediction(self, text: str, row: FloatArray) -> Prediction:
        """Return the probabilities of a text, (1,) or (labels,), with the label."""
        if self.columns == 1:
            probability = float(row[0])
            return Prediction(text, probability, self.labels[probability >= POSITIVE_FROM])
        order = np.argsort(-row, kind="stable").tolist()
        ranking = tuple((self.labels[number], float(row[number])) for number in order)
        return Prediction(text, ranking[0][1], ranking[0][0], ranking)

    def outputs_of_ids(self, reviews: list[IntArray]) -> FloatArray:
        """Return the probabilities of reviews of at most ``maxlen`` ids, (n, 1) or (n, labels)."""
        chunks = (reviews[i : i + CHUNK] for i in range(0, len(reviews), CHUNK))
        return np.concatenate([self._run_all(self._batches(chunk, BATCH)) for chunk in chunks])

    def _batches(self, reviews: list[IntArray], batch_size: int) -> list[tuple[Index, IntArray]]:
        """Return batches of similar length, (rows, ids), without columns of padding alone.

        All are built before the model runs: building them in between would wait for the thread
        that reads text, for longer than the model takes.
        """
        split = make_split(reviews, np.zeros(len(reviews)))
        rows = np.arange(len(split))
        batches = []
        for batch in Batches(split, rows, batch_size, self.maxlen, self.vocabulary).plan():
            longest = self.maxlen if self.padded else int(split.lengths[batch].max())
            batches.append((batch, pad(split, batch, longest, self.vocabulary)))
        return batches

    def _run_all(self, batches: list[tuple[Index, IntArray]]) -> FloatArray:
        """Return the probabilities of each row."""
        result = np.empty((sum(len(rows) for rows, _ in batches), self.columns), np.float32)
        for rows, ids in batches:
            result[rows] = self.run(ids)
        return result


def _choose_format(export: Export, name: str) -> Format:
    available = [known for known in FORMATS if known in export.formats]
    if name and name not in available:
        raise unknown_choice(f"format of {export.folder}", name, available)
    if not available:
        raise damaged(export.folder, f"it has none of the formats {', '.join(FORMATS)}.")
    return FORMATS[name or available[0]]


def _load(export: Export, chosen: Format) -> Run:
    """Return the model as a function, after a test prediction."""
    chosen.check_installed()
    model = chosen.files[0]
    try:
        require_regular_files(export.folder / model)
        run = chosen.load(export)
        probe = run(np.full((1, export.maxlen), export.vocabulary - 1, np.int32))
    except UserError:
        raise
    except Exception as error:  # libraries raise many types for damaged files
        reason = f"{model} cannot be used ({load_failure_reason(error)})."
        raise damaged(export.folder, reason) from error
    count = output_count(len(export.labels))
    if probe.shape != (1, count) or not np.isfinite(probe).all():
        wanted = "one probability" if count == 1 else f"{count} probabilities"
        raise damaged(export.folder, f"{model} does not give {wanted} for a review.")
    return run
