"""Read an ``imdb.npz`` file from any source into the splits that Keras makes of it.

The file holds ``x_train``, ``y_train``, ``x_test`` and ``y_test``: object arrays of lists of word
ranks (1 = most frequent) and integer labels. Object arrays are pickles, which can run code:
``safe_pickle`` reads them without.
"""

from __future__ import annotations

import array
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from imdbtune.data.cache import not_readable
from imdbtune.data.corpus import INDEX_FROM, START, Split
from imdbtune.data.safe_pickle import load_rows
from imdbtune.errors import UserError
from imdbtune.files import require_regular_file

SHUFFLE_SEED = 113  # of keras.datasets.imdb.load_data

_MAX_BYTES = 2**30  # unpacked, all members together
_MAX_RATIO = 20  # unpacked to packed above _FREE_BYTES; that of the IMDB file is 1.6
_FREE_BYTES = 2**24
_MAX_TOKENS = 2**28
_HEAD_BYTES = 2**16  # more than the header of an array
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # 3.0 differs only in the encoding of field names
}


def read_npz(path: Path) -> tuple[Split, Split]:
    """Return the train and test split of an ``imdb.npz``, as ``keras.datasets.imdb.load_data``.

    One ``RandomState(113)`` shuffles both splits, train first; START is put before each review,
    and INDEX_FROM is added to each rank. The vocabulary is not cut.

    Raises:
        UserError: the file is missing, has other content, or would run code.
    """
    with _opened(path) as members:
        rng = np.random.RandomState(SHUFFLE_SEED)
        return _read_split(members, "train", rng), _read_split(members, "test", rng)


def check_npz(path: Path) -> None:
    """Check an ``imdb.npz`` except for the contents of its reviews, which takes milliseconds.

    Raises:
        UserError: as :func:`read_npz`.
    """
    with _opened(path) as members:
        for half in ("train", "test"):
            labels = _read_labels(members.read(f"y_{half}"), f"y_{half}")
            shape, _ = _read_rows_header(members.head(f"x_{half}"), f"x_{half}")
            _check_lengths(half, shape[0] if shape else 0, len(labels))


@contextmanager
def _opened(path: Path) -> Iterator[_Members]:
    """Open the archive; raise UserError for whatever is wrong with it in the block."""
    try:
        with zipfile.ZipFile(require_regular_file(path)) as archive:
            yield _Members(archive, path.stat().st_size)
    except OSError as error:
        raise not_readable(path, error) from error
    except Exception as error:  # zipfile, NumPy and pickle fail in many ways on a bad file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path} is not an imdb.npz: {reason}. It must hold x_train, y_train, x_test and "
            "y_test: lists of word ranks, and labels 0 or 1."
        ) from error


class _Members:
    """The members of an archive, unpacked up to a limit of bytes for all together."""

    def __init__(self, archive: zipfile.ZipFile, packed: int) -> None:
        self._archive = archive
        self._left = min(_MAX_BYTES, _FREE_BYTES + _MAX_RATIO * packed)

    def read(self, name: str) -> bytes:
        """Return the member's content."""
        with self._open(name) as member:
            data = member.read(self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"{name} unpacks to far more than its packed size allows")
        return data

    def head(self, name: str) -> bytes:
        """Return the beginning of the member's content, with its header."""
        with self._open(name) as member:
            return member.read(_HEAD_BYTES)

    def _open(self, name: str) -> IO[bytes]:
        try:
            info = self._archive.getinfo(f"{name}.npy")
        except KeyError:
            raise ValueError(f"it has no {name}") from None
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed in a way that NumPy does not use")
        return self._archive.open(info)


def _read_split(members: _Members, half: str, rng: np.random.RandomState) -> Split:
    labels = _read_labels(members.read(f"y_{half}"), f"y_{half}")
    rows = _read_rows(members.read(f"x_{half}"), f"x_{half}")
    _check_lengths(half, len(rows), len(labels))
    order = np.arange(len(rows))
    rng.shuffle(order)
    tokens, offsets = _flatten(rows, order.tolist(), f"x_{half}")
    return Split(tokens, offsets, labels[order])


def _check_lengths(half: str, rows: int, labels: int) -> None:
    if rows != labels or not rows:
        raise ValueError(f"x_{half} has {rows} rows, y_{half} has {labels}")


def _read_labels(data: bytes, name: str) -> npt.NDArray[np.int8]:
    shape, dtype, start = _read_header(data, name)
    if dtype.kind not in "iub" or len(shape) != 1:
        raise ValueError(f"{name} is not a one-dimensional array of integers")
    if len(data) - start != shape[0] * dtype.itemsize:
        raise ValueError(f"{name} is truncated or too long")
    labels = np.frombuffer(data[start:], dtype)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{name} holds labels other than 0 and 1")
    return labels.astype(np.int8)


def _read_rows_header(data: bytes, name: str) -> tuple[tuple[int, ...], int]:
    """Return the shape of an array of lists, and the byte at which its pickle begins."""
    shape, dtype, start = _read_header(data, name)
    if dtype != np.dtype(object):
        raise ValueError(f"{name} is not an object array of lists")
    return shape, start


def _read_rows(data: bytes, name: str) -> list[object]:
    _, start = _read_rows_header(data, name)
    try:
        return load_rows(data, start)
    except Exception as error:
        raise ValueError(f"{name}: {error}") from error


def _read_header(data: bytes, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
    """Return shape and type of a ``.npy`` file, and the byte at which its data begins."""
    stream = io.BytesIO(data)
    try:
        read = _HEADER_READERS[np.lib.format.read_magic(stream)]
        shape, _, dtype = read(stream)
    except Exception as error:
        raise ValueError(f"{name} is not an .npy file ({error})") from error
    return shape, dtype, stream.tell()


def _flatten(
    rows: Sequence[object], order: Sequence[int], name: str
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return tokens and offsets of ``rows`` in ``order``."""
    flat, offsets = array.array("i"), array.array("q", [0])
    for i in order:
        flat.append(1)  # becomes START
        try:
            _append_ranks(flat, rows[i])
        except (TypeError, OverflowError) as error:
            raise ValueError(f"row {i} of {name}: {error}") from error
        if len(flat) > _MAX_TOKENS:
            raise ValueError(f"{name} has more than {_MAX_TOKENS:,} words")
        offsets.append(len(flat))
    tokens, ends = np.frombuffer(flat, np.int32), np.frombuffer(offsets, np.int64)
    if tokens.min() < 1 or tokens.max() > np.iinfo(np.int32).max - INDEX_FROM:
        raise ValueError(f"{name} holds ranks below 1 or too large")
    tokens += INDEX_FROM
    tokens[ends[:-1]] = START
    return tokens, ends


def _append_ranks(flat: array.array[int], row: object) -> None:
    if isinstance(row, np.ndarray):
        row = row.tolist()
    if not isinstance(row, list):
        raise TypeError(f"a {type(row).__name__} is not a list of word ranks")
    wrong_types = {kind.__name__ for kind in set(map(type, row)) - {int}}
    if wrong_types:
        raise TypeError(f"word ranks are integers, not {', '.join(sorted(wrong_types))}")
    flat.fromlist(row)
