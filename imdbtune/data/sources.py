"""Which corpus a name or a path stands for, and what is in it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from imdbtune.config.schema import TableConfig
from imdbtune.data.corpus import INDEX_FROM, Corpus, Split
from imdbtune.data.download import DownloadFailed, Progress, RemoteFile
from imdbtune.data.imdb import KERAS_FILES, imdb_corpus, npz_corpus
from imdbtune.data.own import check_own, folder_corpus, table_corpus
from imdbtune.data.tables import FORMATS, is_table
from imdbtune.errors import UserError, short_repr, unknown_choice

SOURCES = ("auto", "imdb", "demo")
_FOUND = TableConfig()  # all that is to be found in a table
_AUTO_TIMEOUT_S = 5.0


def default_cache() -> Path:
    """The folder in IMDBTUNE_CACHE, else the user's cache folder for imdbtune."""
    named = os.environ.get("IMDBTUNE_CACHE")
    return _expanded(named) if named else Path(platformdirs.user_cache_dir("imdbtune"))


def is_path(source: str) -> bool:
    """Whether it names a file or folder of the user's, not one of :data:`SOURCES`."""
    return source.endswith(".npz") or is_table(Path(source)) or _is_folder(source)


def check_source(source: str, config: TableConfig = _FOUND) -> dict[str, Any]:
    """What is known of a source before it is opened: of a table, how it would be read.

    Raises:
        UserError: it is no name that :func:`open_corpus` knows, no file, or no usable table.
    """
    if is_table(Path(source)) or _is_folder(source):
        return check_own(_expanded(source), config)
    _check_unused(source, config)
    if source.endswith(".npz"):
        if not _is_file(_expanded(source)):
            raise UserError(
                f"no file {short_repr(source)}; give the path of an imdb.npz, imdb or demo."
            )
    elif source not in SOURCES:
        raise _unknown(source)
    return {}


def place_of(source: str, corpus: Corpus) -> str:
    """What opens the corpus again, also from another working directory."""
    return str(_expanded(source).absolute()) if is_path(source) else corpus.name


def _unknown(source: str) -> UserError:
    tables = (f"PATH{ending}" for ending in FORMATS)
    return unknown_choice("data source", source, (*SOURCES, "PATH.npz", *tables, "FOLDER"))


def _check_unused(source: str, config: TableConfig) -> None:
    """Raise UserError if the user says how to read columns where there are none."""
    for field in dataclasses.fields(TableConfig):
        if getattr(config, field.name) != field.default:
            raise UserError(
                f"{field.name} says how a table of reviews is read, and "
                f"{short_repr(source)} is none; "
                "leave it out."
            )


def _is_folder(source: str) -> bool:
    """A name of ours stands for what it always does, even where there is such a folder."""
    try:
        named = source not in ("", *SOURCES) and not source.endswith(".npz")
        return named and _expanded(source).is_dir()
    except OSError:  # the name is too long
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _expanded(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{short_repr(source)} is in the home of nobody here; write ./~ for ~."
        ) from error


def open_corpus(
    source: str,
    cache: Path,
    notify: Callable[[str], None],
    progress: Progress | None = None,
    files: tuple[RemoteFile, RemoteFile] = KERAS_FILES,
    config: TableConfig = _FOUND,
) -> Corpus:
    """The corpus that ``source`` names.

    Args:
        source: "imdb", "demo", the path of an ``.npz`` file, of a table of reviews or of a folder
            of them, or "auto": IMDB where it is in the cache or can be downloaded, else the demo
            corpus.
        cache: folder for downloads and converted corpora.
        notify: told in plain words when "auto" falls back to the demo corpus, and what is odd
            about reviews of the user's.
        progress: told of what, how much is done and how much there is, while downloading or
            reading.
        files: what "imdb" and "auto" download.
        config: how a table or folder is read.

    Raises:
        UserError: the source is not known, or cannot be had or read.
    """
    if is_table(Path(source)) or _is_folder(source):
        return _own(_expanded(source), cache, notify, progress, config)
    _check_unused(source, config)
    if source == "imdb":
        return imdb_corpus(cache, progress, files)
    if source == "demo":
        return _demo(cache)
    if source == "auto":
        try:
            return imdb_corpus(cache, progress, files, timeout_s=_AUTO_TIMEOUT_S)
        except DownloadFailed as error:
            notify(f"The built-in demo corpus is used, not IMDB: {error}")
            return _demo(cache)
    if source.endswith(".npz"):
        return npz_corpus(_expanded(source), cache)
    raise _unknown(source)


def _own(
    path: Path,
    cache: Path,
    notify: Callable[[str], None],
    progress: Progress | None,
    config: TableConfig,
) -> Corpus:
    read = folder_corpus if path.is_dir() else table_corpus
    corpus = read(path, cache, config, progress)
    for note in corpus.notes:
        notify(f"{corpus.name}: {note}")
    return corpus


def describe(corpus: Corpus) -> dict[str, Any]:
    """What a person asks about a corpus: where it is, and how many reviews of which length."""
    return {
        "name": corpus.name,
        "title": corpus.title,
        "digest": corpus.digest,
        "folder": str(corpus.folder),
        "labels": list(corpus.labels),
        "reading": dict(corpus.reading),
        "notes": list(corpus.notes),
        "vocabulary": len(corpus.word_index()) or _highest_rank(corpus),
        "train": _describe_split(corpus.train),
        "test": _describe_split(corpus.test),
    }


def _describe_split(split: Split) -> dict[str, Any]:
    lengths = split.lengths
    positive = int(np.count_nonzero(split.labels))
    return {
        "rows": len(split),
        "positive": positive,
        "negative": len(split) - positive,
        "tokens": len(split.tokens),
        "length_mean": float(lengths.mean()),
        "length_median": float(np.median(lengths)),
        "length_p90": float(np.percentile(lengths, 90)),
        "length_max": int(lengths.max()),
    }


def _highest_rank(corpus: Corpus) -> int:
    """The vocabulary's size where no word index tells it."""
    return max(int(split.tokens.max()) for split in (corpus.train, corpus.test)) - INDEX_FROM


def _demo(cache: Path) -> Corpus:
    from imdbtune.data.demo import demo_corpus

    return demo_corpus(cache)
