"""A labelled corpus on disk: flat token arrays with offsets, memory-mapped when opened.

Token ids are those of ``keras.datasets.imdb``: 0 is padding, 1 starts every review, 2 stands for a
word outside the vocabulary, and the word of rank r (1 = most frequent) is ``r + INDEX_FROM``. A
corpus holds the full vocabulary; its readers cut it to ``num_words``.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imdbtune.data.cache import locked, not_writable
from imdbtune.data.verified import is_verified, note_verified, state_of
from imdbtune.errors import UserError, short_repr
from imdbtune.files import JsonObject, make_private_folder, require_regular_file, sync_folder

PAD = 0
START = 1
OOV = 2
INDEX_FROM = 3

LABELS = ("negative", "positive")

_FORMAT = 1
_META = "meta.json"
_WORDS = "word_index.json"
_DTYPES: dict[str, np.dtype[np.generic]] = {
    "tokens": np.dtype("<i4"),
    "offsets": np.dtype("<i8"),
    "labels": np.dtype("i1"),
}
# The files of a corpus's folder; other files may lie beside them.
FILES = (
    *(f"{half}_{array}.npy" for half in ("train", "test") for array in _DTYPES),
    _WORDS,
    _META,
)


@dataclass(frozen=True, eq=False)
class Split:
    """The n reviews of one half of a corpus; review i is ``tokens[offsets[i]:offsets[i + 1]]``."""

    tokens: npt.NDArray[np.int32]  # all reviews one after the other, START first in each
    offsets: npt.NDArray[np.int64]  # (n + 1,), from 0 to len(tokens)
    labels: npt.NDArray[np.int8]  # (n,), indices of ``Corpus.labels``

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> npt.NDArray[np.int32]:
        i = range(len(self))[i]  # negative indices, and IndexError out of range
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens in each review, including START, (n,)."""
        return np.diff(self.offsets)

    def head(self, n: int) -> Split:
        """Return the first n reviews, or all if there are fewer, as views."""
        return self.part(0, n)

    def part(self, first: int, last: int) -> Split:
        """Return reviews ``first`` to ``last`` (exclusive); tokens and labels are views."""
        first, last, _ = slice(first, last).indices(len(self))
        starts = self.offsets[first : last + 1]
        tokens = self.tokens[starts[0] : starts[-1]]
        return Split(tokens, starts - starts[0] if first else starts, self.labels[first:last])

    def select(self, rows: npt.NDArray[np.int64]) -> Split:
        """Return the reviews with these row numbers, as copies."""
        return make_split([self[row] for row in rows], self.labels[rows])


def make_split(
    reviews: Sequence[Sequence[int] | npt.NDArray[np.generic]],
    labels: Sequence[int] | npt.NDArray[np.generic],
) -> Split:
    """Return a Split of reviews given as token ids (START first in each) and labels."""
    if len(reviews) != len(labels):
        raise ValueError(f"{len(reviews)} reviews but {len(labels)} labels")
    offsets = np.zeros(len(reviews) + 1, np.int64)
    np.cumsum([len(review) for review in reviews], out=offsets[1:])
    tokens = np.empty(offsets[-1], np.int32)
    for i, review in enumerate(reviews):
        tokens[offsets[i] : offsets[i + 1]] = review
    return Split(tokens, offsets, np.asarray(labels, np.int8))


@dataclass(frozen=True, eq=False)
class NewCorpus:
    """The content of a corpus, for :func:`write_corpus`."""

    name: str  # "imdb", "demo", ...
    title: str  # one line that describes it
    train: Split
    test: Split
    word_index: Mapping[str, int]  # word -> rank, 1 = most frequent; may be empty
    labels: tuple[str, ...] = LABELS  # 2 to 100 names, of 0 and on
    reading: Mapping[str, object] = field(default_factory=dict)  # settings it was read with
    notes: tuple[str, ...] = ()  # warnings for its user


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus that is open: arrays memory-mapped from its folder; see :class:`NewCorpus`."""

    name: str
    title: str
    digest: str  # sha256 over the contents of both splits and the word index
    folder: Path
    train: Split
    test: Split
    labels: tuple[str, ...] = LABELS
    reading: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def word_index(self) -> dict[str, int]:
        """Return word -> rank, 1 = most frequent; empty if the corpus came without one."""
        words: dict[str, int] = _read_json(self.folder, _WORDS)
        return words


class CorpusDamaged(UserError):
    """Files of a corpus are missing or have changed; creating it again helps."""

    @classmethod
    def because(cls, folder: Path, problem: str) -> CorpusDamaged:
        """Return the error for a folder."""
        return cls(
            f"the corpus in {folder} is damaged ({problem}); delete that folder and run again."
        )


def open_or_create(folder: Path, create: Callable[[], Corpus]) -> Corpus:
    """Open the corpus in ``folder``; if there is none or it is damaged, one process creates it.

    Raises:
        UserError: the cache cannot be written, the corpus is damaged, or as ``create``.
    """
    if not folder.is_dir():
        with _creating(folder):
            if not folder.is_dir():  # no other process was first
                return create()
    try:
        return read_corpus(folder)
    except CorpusDamaged as damage:
        return _create_again(folder, create, damage)


def _create_again(folder: Path, create: Callable[[], Corpus], damage: CorpusDamaged) -> Corpus:
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        with _creating(folder):
            with suppress(CorpusDamaged):
                return read_corpus(folder)  # another process was first
            folder.rename(aside)
            try:
                return create()
            finally:
                if not folder.exists():
                    aside.rename(folder)
                shutil.rmtree(aside, ignore_errors=True)
    except (UserError, OSError) as error:
        raise UserError(f"{damage} It could not be created again: {error}") from error


@contextmanager
def _creating(folder: Path) -> Iterator[None]:
    """Let one process at a time create a corpus; delete what killed ones have left of it."""
    with locked(folder.with_name(f"{folder.name}.lock")):
        for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def write_corpus(folder: Path, new: NewCorpus) -> Corpus:
    """Write a corpus and open it; the folder appears complete or not at all.

    If another process wrote the same corpus meanwhile, open that one.

    Raises:
        UserError: the folder cannot be written, or already holds another corpus.
    """
    splits = {"train": new.train, "test": new.test}
    digest = _digest(splits, new.word_index, new.labels)
    meta = {"format": _FORMAT, "name": new.name, "title": new.title, "digest": digest}
    meta |= {"labels": new.labels, "reading": dict(new.reading), "notes": new.notes}
    try:
        make_private_folder(folder.parent)
        _write_folder(folder, splits, {_META: meta, _WORDS: dict(new.word_index)})
    except OSError as error:
        raise not_writable(folder, error) from error
    corpus = read_corpus(folder)
    if corpus.digest != digest:
        raise UserError(
            f"{folder} already holds another corpus, {corpus.title!r}; delete that folder."
        )
    return corpus


def read_corpus(folder: Path, verify: bool = False) -> Corpus:
    """Open a corpus that ``write_corpus`` wrote, its arrays memory-mapped and read-only.

    Args:
        folder: the corpus.
        verify: compute the digest, and note nothing. By default it is computed if files have
            changed since they were last verified.

    Raises:
        CorpusDamaged: files of the folder are missing, truncated or inconsistent, or do not have
            the digest that was computed when they were written.
    """
    state = state_of(folder, FILES)
    corpus = _open(folder)
    if verify or not is_verified(folder, state):
        if digest_of(corpus) != corpus.digest:
            raise CorpusDamaged.because(folder, f"its content differs from the digest in {_META}")
        if not verify:
            note_verified(folder, state)
    return corpus


def _open(folder: Path) -> Corpus:
    meta = _read_json(folder, _META)
    if meta.get("format") != _FORMAT:
        found = short_repr(meta.get("format"))
        raise CorpusDamaged.because(folder, f"{_META} has format {found}, not {_FORMAT}")
    try:
        name, title, digest = (str(meta[key]) for key in ("name", "title", "digest"))
        negative, positive, *others = map(str, meta.get("labels", LABELS))
        reading: JsonObject = dict(meta.get("reading", {}))
        notes = tuple(map(str, meta.get("notes", ())))
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusDamaged.because(folder, f"{_META}: {error!r}") from error
    if not (folder / _WORDS).is_file():
        raise CorpusDamaged.because(folder, f"{_WORDS} is missing")
    train, test = _read_split(folder, "train"), _read_split(folder, "test")
    labels = (negative, positive, *others)
    return Corpus(name, title, digest, folder, train, test, labels, reading, notes)


def digest_of(corpus: Corpus) -> str:
    """Return the digest of a corpus, computed from its content instead of read from its folder."""
    splits = {"train": corpus.train, "test": corpus.test}
    return _digest(splits, corpus.word_index(), corpus.labels)


def _digest(
    splits: Mapping[str, Split], word_index: Mapping[str, int], labels: tuple[str, ...]
) -> str:
    digest = hashlib.sha256()
    for half, split in splits.items():
        for name, dtype in _DTYPES.items():
            array = np.ascontiguousarray(getattr(split, name), dtype)
            digest.update(f"{half}/{name}:{array.size}\n".encode())
            digest.update(array.data)
    digest.update(json.dumps(sorted(word_index.items())).encode())
    if labels != LABELS:
        digest.update(json.dumps(labels).encode())
    return digest.hexdigest()


def _write_folder(
    folder: Path, splits: Mapping[str, Split], documents: Mapping[str, dict[str, object]]
) -> None:
    """Write all files into a temporary sibling folder, then rename it to ``folder``."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for half, split in splits.items():
            for name, dtype in _DTYPES.items():
                array = np.asarray(getattr(split, name), dtype)
                np.save(temporary / f"{half}_{name}.npy", array, allow_pickle=False)
        for name, document in documents.items():
            (temporary / name).write_text(json.dumps(document), encoding="utf-8")
        sync_folder(temporary)
        _rename_new(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename_new(source: Path, target: Path) -> None:
    """Rename a folder, unless another process has created the target."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _read_split(folder: Path, half: str) -> Split:
    arrays = {name: _read_array(folder, f"{half}_{name}.npy") for name in _DTYPES}
    split = Split(**arrays)
    mistyped = [name for name, dtype in _DTYPES.items() if arrays[name].dtype != dtype]
    if mistyped or any(array.ndim != 1 for array in arrays.values()):
        raise CorpusDamaged.because(folder, f"the {half} arrays have the wrong types or shapes")
    ends = (split.offsets[0], split.offsets[-1]) if len(split.offsets) else None
    if len(split.offsets) != len(split.labels) + 1 or ends != (0, len(split.tokens)):
        raise CorpusDamaged.because(folder, f"the {half} offsets do not fit the tokens and labels")
    if np.any(split.lengths < 0):
        raise CorpusDamaged.because(folder, f"the {half} offsets go backwards")
    return split


def _read_array(folder: Path, name: str) -> npt.NDArray[Any]:
    try:
        mapped = np.load(require_regular_file(folder / name), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CorpusDamaged.because(folder, f"{name}: {error}") from error
    return np.asarray(mapped).view(np.ndarray)  # slicing a memmap is slow


def _read_json(folder: Path, name: str) -> JsonObject:
    try:
        document = json.loads(require_regular_file(folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusDamaged.because(folder, f"{name}: {error}") from error
    if not isinstance(document, dict):
        raise CorpusDamaged.because(folder, f"{name} does not hold a JSON object")
    return document
