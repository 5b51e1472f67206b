"""Which corpus a name or a path stands for, and what is in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from imdbtune.data.corpus import INDEX_FROM, Corpus, Split
from imdbtune.data.download import DownloadFailed, Progress, RemoteFile
from imdbtune.data.imdb import KERAS_FILES, imdb_corpus, npz_corpus
from imdbtune.errors import UserError, not_one_of, shown

SOURCES = ("auto", "imdb", "demo")
_AUTO_TIMEOUT_S = 5.0


def default_cache() -> Path:
    """The folder in IMDBTUNE_CACHE, else the user's cache folder for imdbtune."""
    named = os.environ.get("IMDBTUNE_CACHE")
    return _expanded(named) if named else Path(platformdirs.user_cache_dir("imdbtune"))


def check_source(source: str) -> None:
    """Raise UserError unless ``source`` is a name that :func:`open_corpus` knows, or a file."""
    if source.endswith(".npz"):
        if not _is_file(_expanded(source)):
            raise UserError(f"no file {shown(source)}; give the path of an imdb.npz, imdb or demo.")
    elif source not in SOURCES:
        raise not_one_of("data source", source, (*SOURCES, "PATH.npz"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _is_endless(path: Path) -> bool:
    """Whether it is a pipe or a device, which one might read for ever."""
    try:
        return path.exists() and not (path.is_file() or path.is_dir())
    except OSError:
        return False  # the name is too long; opening it will say so


def _expanded(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{shown(source)} is in the home of nobody here; write ./~ for ~."
        ) from error


def open_corpus(
    source: str,
    cache: Path,
    notify: Callable[[str], None],
    progress: Progress | None = None,
    files: tuple[RemoteFile, RemoteFile] = KERAS_FILES,
) -> Corpus:
    """The corpus that ``source`` names.

    Args:
        source: "imdb", "demo", the path of an ``.npz`` file, or "auto": IMDB where it is in the
            cache or can be downloaded, else the demo corpus.
        cache: folder for downloads and converted corpora.
        notify: told in plain words when "auto" falls back to the demo corpus.
        progress: told the name, the bytes done and the bytes in all while downloading.
        files: what "imdb" and "auto" download.

    Raises:
        UserError: the source is not known, or cannot be had or read.
    """
    if source == "imdb":
        return imdb_corpus(cache, progress, files)
    if source == "demo":
        return _demo(cache)
    if source == "auto":
        try:
            return imdb_corpus(cache, progress, files, timeout_s=_AUTO_TIMEOUT_S)
        except DownloadFailed as error:
            notify(f"The built-in demo corpus is used, not IMDB.\n{error}")
            return _demo(cache)
    if source.endswith(".npz"):
        path = _expanded(source)
        if _is_endless(path):
            raise UserError(f"{shown(source)} is no file; give the path of an imdb.npz.")
        return npz_corpus(path, cache)
    raise not_one_of("data source", source, (*SOURCES, "PATH.npz"))


def describe(corpus: Corpus) -> dict[str, Any]:
    """What a person asks about a corpus: where it is, and how many reviews of which length."""
    return {
        "name": corpus.name,
        "title": corpus.title,
        "digest": corpus.digest,
        "folder": str(corpus.folder),
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
