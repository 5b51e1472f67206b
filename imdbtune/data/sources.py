"""Open and describe the corpus that a name or a path stands for."""

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
_DEFAULTS = TableConfig()
_AUTO_TIMEOUT_S = 5.0


def default_cache() -> Path:
    """Return the folder in IMDBTUNE_CACHE, else the user's cache folder for imdbtune."""
    folder = os.environ.get("IMDBTUNE_CACHE")
    return _expanded(folder) if folder else Path(platformdirs.user_cache_dir("imdbtune"))


def is_path(source: str) -> bool:
    """Return whether ``source`` is a path, not one of :data:`SOURCES`."""
    return source.endswith(".npz") or is_table(Path(source)) or _is_folder(source)


def check_source(source: str, config: TableConfig = _DEFAULTS) -> dict[str, Any]:
    """Check a source without opening it; return how its table or folder would be read, if any.

    Raises:
        UserError: :func:`open_corpus` would reject the source.
    """
    if is_table(Path(source)) or _is_folder(source):
        return check_own(_expanded(source), config)
    _check_unused(source, config)
    if source.endswith(".npz"):
        if not _is_file(_expanded(source)):
            raise UserError(
                f"no file {short_repr(source)}; pass the path of an imdb.npz, imdb or demo."
            )
    elif source not in SOURCES:
        raise _unknown(source)
    return {}


def place_of(source: str, corpus: Corpus) -> str:
    """Return what opens the corpus again, also from another working directory."""
    return str(_expanded(source).absolute()) if is_path(source) else corpus.name


def _unknown(source: str) -> UserError:
    tables = (f"PATH{ending}" for ending in FORMATS)
    return unknown_choice("data source", source, (*SOURCES, "PATH.npz", *tables, "FOLDER"))


def _check_unused(source: str, config: TableConfig) -> None:
    """Raise UserError if there are settings for tables, but ``source`` is not a table or folder."""
    for field in dataclasses.fields(TableConfig):
        if getattr(config, field.name) != field.default:
            raise UserError(
                f"{field.name} applies to tables and folders of reviews, and {short_repr(source)} "
                "is neither; leave it out."
            )


def _is_folder(source: str) -> bool:
    """Return whether ``source`` is a folder; a folder called demo does not hide that source."""
    try:
        may_be = source not in ("", *SOURCES) and not source.endswith(".npz")
        return may_be and _expanded(source).is_dir()
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
            f"{short_repr(source)} names the home of an unknown user; write ./~ for a literal ~."
        ) from error


def open_corpus(
    source: str,
    cache: Path,
    notify: Callable[[str], None],
    progress: Progress | None = None,
    files: tuple[RemoteFile, RemoteFile] = KERAS_FILES,
    config: TableConfig = _DEFAULTS,
) -> Corpus:
    """Open the corpus that ``source`` names.

    Args:
        source: "imdb", "demo", the path of an ``.npz`` file, of a table of reviews or of a folder
            of them, or "auto": IMDB if it is in the cache or can be downloaded, else the demo
            corpus.
        cache: folder for downloads and converted corpora.
        notify: called with a message when "auto" falls back to the demo corpus, and for each of
            the corpus's notes.
        progress: called with the name, the amount done and the amount in all while downloading or
            reading.
        files: what "imdb" and "auto" download.
        config: how a table or folder is read.

    Raises:
        UserError: the source is unknown, or cannot be downloaded or read.
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
            notify(f"Using the built-in demo corpus, not IMDB: {error}")
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
    """Return facts about a corpus for people: where it is, its labels, counts and lengths."""
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
    """Return the size of the vocabulary of a corpus without a word index."""
    return max(int(split.tokens.max()) for split in (corpus.train, corpus.test)) - INDEX_FROM


def _demo(cache: Path) -> Corpus:
    from imdbtune.data.demo import demo_corpus

    return demo_corpus(cache)
