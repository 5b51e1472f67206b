"""Corpora of a user's own reviews, from a table or from a folder with a file for each review."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imdbtune.config.schema import TableConfig
from imdbtune.data.batches import VALIDATION_SHARE, Index, validation_split
from imdbtune.data.cache import not_readable, sha256
from imdbtune.data.columns import NO_COLUMN, Columns, find_columns, read_reviews
from imdbtune.data.corpus import Corpus, NewCorpus, open_or_create, write_corpus
from imdbtune.data.download import Progress
from imdbtune.data.labels import check_labels, label_notes, order_labels
from imdbtune.data.parts import VALIDATION, Codes, divide
from imdbtune.data.preview import is_small
from imdbtune.data.review_buffer import Review, ReviewBuffer
from imdbtune.data.review_folder import folder_digest, read_files, review_files
from imdbtune.data.tables import list_names, open_table
from imdbtune.errors import UserError, escape_control, short_repr

_VERSION = 1  # increase it with every change of how a corpus is made from a file


def table_corpus(
    path: Path, cache: Path, config: TableConfig, progress: Progress | None = None
) -> Corpus:
    """Return the corpus in a table, converted the first time.

    Args:
        path: a file in one of the formats of :data:`imdbtune.data.tables.FORMATS`.
        cache: folder for the converted corpus.
        config: the columns, and how reviews are divided.
        progress: called with how much of the file has been read.

    Raises:
        UserError: the table cannot be used, or the cache cannot be written.
    """
    table = open_table(path, progress)
    columns = find_columns(table, config)
    reading = _with_columns(config, columns)
    try:
        folder = _folder(cache, sha256(path), path.name, reading)
        reviews = read_reviews(table, columns)
        return open_or_create(folder, lambda: _convert(folder, path, reading, reviews, path.name))
    except OSError as error:
        raise not_readable(error.filename, error) from error


def folder_corpus(
    folder: Path, cache: Path, config: TableConfig, progress: Progress | None = None
) -> Corpus:
    """Return the corpus in a folder with the layout of aclImdb, like :func:`table_corpus`."""
    _check_folder(folder, config)
    files = review_files(folder)
    name = f"{folder.resolve().name}/"
    try:
        target = _folder(cache, folder_digest(files), name, config)
        reviews = read_files(files, name, progress)
        return open_or_create(target, lambda: _convert(target, folder, config, reviews, name))
    except OSError as error:
        raise not_readable(error.filename, error) from error


def check_own(path: Path, config: TableConfig) -> dict[str, object]:
    """Return the settings with which ``path`` would be read; only its first rows are examined.

    Raises:
        UserError: the path cannot be read with these settings.
    """
    if path.is_dir():
        _check_folder(path, config)
        review_files(path)
        return dataclasses.asdict(config)
    return dataclasses.asdict(_with_columns(config, find_columns(open_table(path), config)))


def _check_folder(folder: Path, config: TableConfig) -> None:
    if config.label_at:
        raise UserError(
            f"label_at applies to tables, and {folder} is a folder, whose subfolders are its "
            "labels; leave it out."
        )


def _with_columns(config: TableConfig, columns: Columns) -> TableConfig:
    """Return the settings with the columns that were found: they give the same corpus again."""
    return dataclasses.replace(
        config,
        text_column=columns.text,
        label_column=columns.label,
        split_column=columns.split or NO_COLUMN,
        label_at=columns.condition.positive if columns.condition else "",
    )


def _folder(cache: Path, digest: str, name: str, reading: TableConfig) -> Path:
    version = [_VERSION, name, dataclasses.asdict(reading)]
    settings = json.dumps(version, sort_keys=True).encode()
    return cache / "corpora" / f"own-{digest[:16]}-{hashlib.sha256(settings).hexdigest()[:8]}"


def check_own_contents(path: Path, config: TableConfig) -> None:
    """Read all reviews of a small table or folder, and check that a corpus can be made of them.

    Raises:
        UserError: :func:`table_corpus` or :func:`folder_corpus` would raise it.
    """
    if not is_small(path):
        return
    try:
        if path.is_dir():
            reading = config
            reviews = read_files(review_files(path), path.name)
        else:
            columns = find_columns(open_table(path), config)
            reading, reviews = (
                _with_columns(config, columns),
                read_reviews(open_table(path), columns),
            )
        _divide(path, reading, reviews)
    except OSError as error:
        raise not_readable(error.filename, error) from error


@dataclasses.dataclass(frozen=True)
class _Divided:
    """Reviews with their labels, divided into those to train on and those to test."""

    buffer: ReviewBuffer
    names: tuple[str, ...]  # of the labels
    labels: Codes
    train: Index
    test: Index


def _divide(path: Path, reading: TableConfig, reviews: Iterator[Review]) -> _Divided:
    buffer = ReviewBuffer(reviews)
    check_labels(path, buffer.label_names)
    if not buffer.words:
        where = f"column {short_repr(reading.text_column)} of " if reading.text_column else ""
        raise UserError(f"{where}{path} has no words in any row; choose another text column.")
    names = order_labels(buffer.label_names, reading.positive or reading.label_at)
    labels = buffer.labels(names)
    _check_rows(path, labels, names)
    train, test = divide(labels, buffer.parts, reading.test_share, reading.split_seed)
    for part, rows in (("training", train), ("testing", test)):
        _check_part(path, part, labels[rows], names)
    return _Divided(buffer, names, labels, train, test)


def _convert(
    folder: Path, path: Path, reading: TableConfig, reviews: Iterator[Review], name: str
) -> Corpus:
    divided, name = _divide(path, reading, reviews), escape_control(name)
    buffer, train, test = divided.buffer, divided.train, divided.test
    words = buffer.word_index(train)
    new = NewCorpus(
        name,
        f"{name}: {len(train):,} reviews to train on, {len(test):,} to test",
        buffer.split(train, words, divided.labels),
        buffer.split(test, words, divided.labels),
        words,
        divided.names,
        dataclasses.asdict(reading),
        (*label_notes(divided.names), *_notes(buffer, train, test), *_unvalidated(divided)),
    )
    return write_corpus(folder, new)


def _check_rows(path: Path, labels: Codes, names: tuple[str, ...]) -> None:
    single = [names[label] for label in np.flatnonzero(np.bincount(labels) == 1)]
    if single:
        raise UserError(
            f"{path} has only one row with the label {list_names(single, 5)}; each label needs at "
            "least two, one for training and one for testing: add rows, or leave that label out."
        )


def _check_part(path: Path, part: str, labels: Codes, names: tuple[str, ...]) -> None:
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        missing = short_repr(names[int(np.argmin(counts))])
        raise UserError(
            f"{path} has no row for {part} with label {missing} ({counts.sum():,} in all); each "
            "label needs rows for training and for testing."
        )


def _unvalidated(divided: _Divided) -> Iterator[str]:
    """Yield a note on labels that are too rare for both training and validation."""
    rows, names = divided.train, divided.names
    for part, of in zip(("training", "validation"), validation_split(len(rows)), strict=True):
        counts = np.bincount(divided.labels[rows[of]], minlength=len(names))
        missing = [name for name, count in zip(names, counts, strict=True) if not count]
        if missing and len(names) > 2:
            yield f"no row for {part} has the label {list_names(missing, 5)}; add rows of it."


def _notes(buffer: ReviewBuffer, train: Index, test: Index) -> Iterator[str]:
    repeated = buffer.repeated(test, train)
    if repeated:
        yield (
            f"{repeated:,} of {len(test):,} test reviews also occur among the training reviews, "
            "word for word; test accuracy is too optimistic."
        )
    validation = int(np.count_nonzero(buffer.parts == VALIDATION))
    if validation:
        yield (
            f"the {validation:,} rows for validation come last among the {len(train):,} for "
            f"training, of which the last {VALIDATION_SHARE:.0%} validate each epoch."
        )
