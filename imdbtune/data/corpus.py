"""A labelled corpus on disk: flat token arrays with offsets, memory-mapped when opened.

Token ids are those of ``keras.datasets.imdb``: 0 is padding, 1 starts every review, 2 stands for a
word outside the vocabulary, and the word of rank r (1 = most frequent) is ``r + INDEX_FROM``. A
corpus holds the full vocabulary; cutting it to ``num_words`` is the reader's business.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from imdbtune.data.cache import not_writable
from imdbtune.errors import UserError
from imdbtune.files import require_regular_file

PAD = 0
START = 1
OOV = 2
INDEX_FROM = 3

LABELS = ("negative", "positive")

_FORMAT = 1
_META = "meta.json"
_WORDS = "word_index.json"
_DTYPES: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype("<i4"),
    "offsets": np.dtype("<i8"),
    "labels": np.dtype("i1"),
}
# All that is in a corpus's folder, but for what others may keep there.
FILES = (
    *(f"{half}_{field}.npy" for half in ("train", "test") for field in _DTYPES),
    _WORDS,
    _META,
)


@dataclass(frozen=True, eq=False)
class Split:
    """The n reviews of one half of a corpus; review i is ``tokens[offsets[i]:offsets[i + 1]]``."""

    tokens: npt.NDArray[np.int32]  # all reviews one after the other, START first in each
    offsets: npt.NDArray[np.int64]  # (n + 1,), from 0 to len(tokens)
    labels: npt.NDArray[np.int8]  # (n,), 0 negative, 1 positive, whatever these are called

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> npt.NDArray[np.int32]:
        i = range(len(self))[i]  # counts from the end below 0, IndexError outside
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens in each review, START counted, (n,)."""
        return np.diff(self.offsets)

    def head(self, n: int) -> Split:
        """The first n reviews, or all where there are fewer; views, nothing is copied."""
        return self.part(0, n)

    def part(self, first: int, last: int) -> Split:
        """Reviews ``first`` to before ``last``, or to the end; tokens and labels are views."""
        first, last, _ = slice(first, last).indices(len(self))
        starts = self.offsets[first : last + 1]
        tokens = self.tokens[starts[0] : starts[-1]]
        return Split(tokens, starts - starts[0] if first else starts, self.labels[first:last])


def make_split(
    reviews: Sequence[Sequence[int] | npt.NDArray[Any]],
    labels: Sequence[int] | npt.NDArray[Any],
) -> Split:
    """A Split of reviews given as token ids (START first in each) and labels, 0 or 1."""
    if len(reviews) != len(labels):
        raise ValueError(f"{len(reviews)} reviews but {len(labels)} labels")
    offsets = np.zeros(len(reviews) + 1, np.int64)
    np.cumsum([len(review) for review in reviews], out=offsets[1:])
    tokens = np.empty(offsets[-1], np.int32)
    for i, review in enumerate(reviews):
        tokens[offsets[i] : offsets[i + 1]] = review
    return Split(tokens, offsets, np.asarray(labels, np.int8))


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus opened from its folder."""

    name: str  # "imdb", "demo", ...
    title: str  # one line for people
    digest: str  # sha256 over the contents of both splits and the word index
    folder: Path
    train: Split
    test: Split
    labels: tuple[str, str] = LABELS  # what 0 and 1 are called
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # settings that made it
    notes: tuple[str, ...] = ()  # what its user ought to know

    def word_index(self) -> dict[str, int]:
        """Word -> rank, 1 = most frequent; empty where the corpus came without one."""
        words: dict[str, int] = _read_json(self.folder, _WORDS)
        return words


def write_corpus(
    folder: Path,
    name: str,
    title: str,
    train: Split,
    test: Split,
    word_index: Mapping[str, int],
    labels: tuple[str, str] = LABELS,
    reading: Mapping[str, Any] = {},
    notes: Sequence[str] = (),
) -> Corpus:
    """Write a corpus and open it. The folder appears whole or not at all.

    Where another process has written the same corpus meanwhile, that one is opened. The
    arguments are the fields of :class:`Corpus`.

    Raises:
        UserError: the folder cannot be written, or already holds another corpus.
    """
    splits = {"train": train, "test": test}
    digest = _digest(splits, word_index, labels)
    meta = {"format": _FORMAT, "name": name, "title": title, "digest": digest}
    meta |= {"labels": labels, "reading": dict(reading), "notes": list(notes)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write_aside(folder, splits, {_META: meta, _WORDS: dict(word_index)})
    except OSError as error:
        raise not_writable(folder, error) from error
    corpus = read_corpus(folder)
    if corpus.digest != digest:
        raise UserError(
            f"{folder} already holds another corpus, {corpus.title!r}; delete that folder first."
        )
    return corpus


def read_corpus(folder: Path) -> Corpus:
    """Open a corpus that ``write_corpus`` wrote, its arrays memory-mapped and read-only.

    Raises:
        UserError: something in the folder is missing, truncated or does not fit together.
    """
    meta = _read_json(folder, _META)
    if meta.get("format") != _FORMAT:
        raise _damaged(folder, f"{_META} has format {meta.get('format')!r}, not {_FORMAT}")
    try:
        name, title, digest = (str(meta[key]) for key in ("name", "title", "digest"))
    except KeyError as error:
        raise _damaged(folder, f"{_META} lacks {error}") from error
    if not (folder / _WORDS).is_file():
        raise _damaged(folder, f"{_WORDS} is missing")
    labels, notes = meta.get("labels", LABELS), meta.get("notes", [])
    return Corpus(
        name,
        title,
        digest,
        folder,
        _read_split(folder, "train"),
        _read_split(folder, "test"),
        (str(labels[0]), str(labels[1])),
        meta.get("reading", {}),
        tuple(map(str, notes)),
    )


def digest_of(corpus: Corpus) -> str:
    """The digest of what is in a corpus, whatever it says itself."""
    splits = {"train": corpus.train, "test": corpus.test}
    return _digest(splits, corpus.word_index(), corpus.labels)


def _digest(
    splits: Mapping[str, Split], word_index: Mapping[str, int], labels: tuple[str, str]
) -> str:
    digest = hashlib.sha256()
    for half, split in splits.items():
        for field, dtype in _DTYPES.items():
            array = np.ascontiguousarray(getattr(split, field), dtype)
            digest.update(f"{half}/{field}:{array.size}\n".encode())
            digest.update(array.data)
    digest.update(json.dumps(sorted(word_index.items())).encode())
    if labels != LABELS:
        digest.update(json.dumps(labels).encode())
    return digest.hexdigest()


def _write_aside(
    folder: Path, splits: Mapping[str, Split], documents: Mapping[str, dict[str, Any]]
) -> None:
    """Write all files into a temporary sibling folder, then rename it to ``folder``."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for half, split in splits.items():
            for field, dtype in _DTYPES.items():
                with _synced(aside / f"{half}_{field}.npy") as file:
                    np.save(file, np.asarray(getattr(split, field), dtype), allow_pickle=False)
        for name, document in documents.items():
            with _synced(aside / name) as file:
                file.write(json.dumps(document).encode())
        _rename_new(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    """A new file whose contents are on the disk, not only in memory, when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _rename_new(source: Path, target: Path) -> None:
    """Rename a folder, unless another process was first."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _read_split(folder: Path, half: str) -> Split:
    arrays = {field: _read_array(folder, f"{half}_{field}.npy") for field in _DTYPES}
    split = Split(**arrays)
    wrong = [field for field, dtype in _DTYPES.items() if arrays[field].dtype != dtype]
    if wrong or any(array.ndim != 1 for array in arrays.values()):
        raise _damaged(folder, f"the {half} arrays have the wrong types or shapes")
    ends = (split.offsets[0], split.offsets[-1]) if len(split.offsets) else None
    if len(split.offsets) != len(split.labels) + 1 or ends != (0, len(split.tokens)):
        raise _damaged(folder, f"the {half} offsets do not fit the tokens and labels")
    if np.any(split.lengths < 0):
        raise _damaged(folder, f"the {half} offsets go backwards")
    return split


def _read_array(folder: Path, name: str) -> npt.NDArray[Any]:
    try:
        mapped = np.load(require_regular_file(folder / name), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder, f"{name}: {error}") from error
    return np.asarray(mapped).view(np.ndarray)  # slices of a plain array are cheaper


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads(require_regular_file(folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{name}: {error}") from error
    if not isinstance(document, dict):
        raise _damaged(folder, f"{name} does not hold a JSON object")
    return document


def _damaged(folder: Path, what: str) -> UserError:
    return UserError(
        f"the corpus in {folder} is damaged ({what}); delete that folder and run again."
    )
