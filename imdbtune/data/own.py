"""Corpora of one's own reviews: out of a table, or a folder with a file for each review."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imdbtune.config.schema import TableConfig
from imdbtune.data.batches import VALIDATION_SHARE
from imdbtune.data.cache import locked, sha256
from imdbtune.data.columns import NO_COLUMN, Columns, find_columns, read_reviews
from imdbtune.data.corpus import Corpus, read_corpus, write_corpus
from imdbtune.data.download import Progress
from imdbtune.data.gathering import Gathered, Review
from imdbtune.data.labels import check_labels, order_labels
from imdbtune.data.parts import VALIDATION, Codes, Index, divide
from imdbtune.data.review_folder import digest_of, read_files, review_files
from imdbtune.data.tables import listed, open_table
from imdbtune.errors import UserError, escape_control, short_repr

_VERSION = 1  # goes up with every change of what is made of a file


def table_corpus(
    path: Path, cache: Path, config: TableConfig, progress: Progress | None = None
) -> Corpus:
    """The corpus in a table: converted once, then memory-mapped.

    Args:
        path: a file of one of the formats in :data:`imdbtune.data.tables.FORMATS`.
        cache: folder for the converted corpus.
        config: which columns, and what is for testing.
        progress: told how far the file is read.

    Raises:
        UserError: the table cannot be used, or the cache cannot be written.
    """
    table = open_table(path, progress)
    columns = find_columns(table, config)
    reading = _reading(config, columns)
    try:
        folder = _folder(cache, sha256(path), path.name, reading)
        return _converted(folder, path, reading, read_reviews(table, columns))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error


def folder_corpus(
    folder: Path, cache: Path, config: TableConfig, progress: Progress | None = None
) -> Corpus:
    """As :func:`table_corpus`, out of a folder that is laid out like aclImdb."""
    files = review_files(folder)
    reading = _reading(config)
    name = f"{folder.resolve().name}/"
    try:
        place = _folder(cache, digest_of(files), name, reading)
        return _converted(place, folder, reading, read_files(files, name, progress), name)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error


def check_own(path: Path, config: TableConfig) -> dict[str, Any]:
    """What would be read how; only the first rows are looked at.

    Raises:
        UserError: nothing of it can be used.
    """
    if path.is_dir():
        review_files(path)
        return _reading(config)
    return _reading(config, find_columns(open_table(path), config))


def _reading(config: TableConfig, columns: Columns | None = None) -> dict[str, Any]:
    """The settings with what has been found: enough to make the same corpus again."""
    told = {f.name: getattr(config, f.name) for f in dataclasses.fields(TableConfig)}
    if columns is None:
        return told
    found = {"text_column": columns.text, "label_column": columns.label}
    return {**told, **found, "split_column": columns.split or NO_COLUMN}


def _folder(cache: Path, digest: str, name: str, reading: Mapping[str, Any]) -> Path:
    settings = json.dumps([_VERSION, name, reading], sort_keys=True).encode()
    return cache / "corpora" / f"own-{digest[:16]}-{hashlib.sha256(settings).hexdigest()[:8]}"


def _converted(
    folder: Path, path: Path, reading: dict[str, Any], reviews: Iterator[Review], name: str = ""
) -> Corpus:
    if folder.is_dir():
        return read_corpus(folder)
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():  # another process was first
            return read_corpus(folder)
        return _convert(folder, path, reading, Gathered(reviews), escape_control(name or path.name))


def _convert(
    folder: Path, path: Path, reading: dict[str, Any], gathered: Gathered, name: str
) -> Corpus:
    check_labels(path, gathered.label_names, listed(gathered.label_names))
    if not gathered.words:
        where = f"column {short_repr(reading['text_column'])} of " if reading["text_column"] else ""
        raise UserError(f"{where}{path} has no words in any row; choose another column of texts.")
    names = order_labels(gathered.label_names, reading["positive"])
    labels = gathered.labels(names)
    train, test = divide(labels, gathered.parts, reading["test_share"], reading["split_seed"])
    for part, rows in (("training", train), ("testing", test)):
        _check_part(path, part, labels[rows], names)
    words = gathered.word_index(train)
    return write_corpus(
        folder,
        name,
        f"{name}: {len(train):,} reviews to train on, {len(test):,} to test",
        gathered.split(train, words, labels),
        gathered.split(test, words, labels),
        words,
        names,
        reading,
        list(_notes(gathered, train, test)),
    )


def _check_part(path: Path, part: str, labels: Codes, names: tuple[str, str]) -> None:
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        lacking = names[int(np.argmin(counts))]
        raise UserError(
            f"{path} has no row for {part} that is labelled "
            f"{short_repr(lacking)} (of {counts.sum():,} "
            f"for {part}); each label needs rows for training and for testing."
        )


def _notes(gathered: Gathered, train: Index, test: Index) -> Iterator[str]:
    repeated = gathered.repeated(test, train)
    if repeated:
        yield (
            f"{repeated:,} of {len(test):,} test reviews are also among those for training, word "
            "for word: accuracy on them says less."
        )
    validation = int(np.count_nonzero(gathered.parts == VALIDATION))
    if validation:
        yield (
            f"the {validation:,} rows for validation stand last among the {len(train):,} for "
            f"training, whose last {VALIDATION_SHARE:.0%} validate each epoch."
        )
