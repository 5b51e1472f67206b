"""Open and describe the corpus that a name or a path stands for."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from imdbtune.config.extensions import SOURCES
from imdbtune.config.schema import TableConfig
from imdbtune.data.corpus import INDEX_FROM, Corpus, Split
from imdbtune.data.download import Progress
from imdbtune.data.source import Request, expand
from imdbtune.errors import UserError, short_repr, unknown_choice

_DEFAULTS = TableConfig()
_PATH = "PATH"  # with an ending: a file
_FOLDER = "FOLDER"


def default_cache() -> Path:
    """Return the folder in IMDBTUNE_CACHE, else the user's cache folder for imdbtune."""
    folder = os.environ.get("IMDBTUNE_CACHE")
    return expand(folder) if folder else Path(platformdirs.user_cache_dir("imdbtune"))


def find_source(text: str) -> str:
    """Return the registered name of the source that ``text`` names.

    A folder called demo does not hide the source of that name.

    Raises:
        UserError: there is no such source.
    """
    for name in SOURCES:
        if name != _FOLDER and _matches(name, text):
            return name
    if _is_folder(text):
        return _FOLDER
    raise unknown_choice("data source", text, SOURCES)


def _matches(name: str, text: str) -> bool:
    """Return whether ``text`` is ``name``, or what its capitals stand for."""
    if name.startswith(f"{_PATH}."):
        ending = name.removeprefix(_PATH)
        return text.endswith(ending) or Path(text).suffix.lower() == ending
    scheme, colon, _ = name.partition(":")
    return text.startswith(f"{scheme}:") if colon else text == name


def _is_folder(text: str) -> bool:
    try:
        return text != "" and expand(text).is_dir()
    except OSError:  # the name is too long
        return False


def check_source(source: str, config: TableConfig = _DEFAULTS) -> dict[str, Any]:
    """Check a source without opening it; return how its table or folder would be read, if any.

    Raises:
        UserError: :func:`open_corpus` would reject the source.
    """
    found = SOURCES[find_source(source)]
    if not found.has_settings:
        _check_unused(source, config)
    return found.check(source, config)


def check_contents(source: str, config: TableConfig = _DEFAULTS) -> None:
    """Check the contents of a source that :func:`check_source` has accepted.

    Of a large ``.npz`` the reviews stay unread, of a large table or folder all after the first
    rows. What would be downloaded is not checked.

    Raises:
        UserError: :func:`open_corpus` would reject it.
    """
    SOURCES[find_source(source)].check_contents(source, config)


def place_of(source: str, corpus: Corpus) -> str:
    """Return what opens the corpus again, also from another working directory."""
    name = find_source(source)
    if name == _FOLDER or name.startswith(f"{_PATH}."):
        return str(expand(source).absolute())
    return corpus.name if corpus.name in SOURCES else source  # auto has opened imdb or demo


def _check_unused(source: str, config: TableConfig) -> None:
    """Raise UserError if there are settings for tables, but ``source`` is not a table or folder."""
    for field in dataclasses.fields(TableConfig):
        if getattr(config, field.name) != field.default:
            raise UserError(
                f"{field.name} applies to tables and folders of reviews, and {short_repr(source)} "
                "is neither; leave it out."
            )


def open_corpus(
    source: str,
    cache: Path,
    notify: Callable[[str], None],
    progress: Progress | None = None,
    config: TableConfig = _DEFAULTS,
) -> Corpus:
    """Open the corpus that ``source`` names.

    Args:
        source: what one of the registered sources reads, such as a name or a path.
        cache: folder for downloads and converted corpora.
        notify: called with a message when "auto" falls back to the demo corpus, and for each of
            the corpus's notes.
        progress: called with the name, the amount done and the amount in all while downloading or
            reading.
        config: how a table or folder is read.

    Raises:
        UserError: the source is unknown, or cannot be downloaded or read.
    """
    found = SOURCES[find_source(source)]
    if not found.has_settings:
        _check_unused(source, config)
    corpus = found.open(Request(source, cache, config, notify, progress))
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
        "train": _describe_split(corpus.train, corpus.labels),
        "test": _describe_split(corpus.test, corpus.labels),
    }


def _describe_split(split: Split, labels: tuple[str, ...]) -> dict[str, Any]:
    lengths = split.lengths
    counts = np.bincount(split.labels, minlength=len(labels)).tolist()
    named = {"positive": counts[1], "negative": counts[0]}
    return {
        "rows": len(split),
        **(named if not counts[2:] else {"by_label": dict(zip(labels, counts, strict=True))}),
        "tokens": len(split.tokens),
        "length_mean": float(lengths.mean()),
        "length_median": float(np.median(lengths)),
        "length_p90": float(np.percentile(lengths, 90)),
        "length_max": int(lengths.max()),
    }


def _highest_rank(corpus: Corpus) -> int:
    """Return the size of the vocabulary of a corpus without a word index."""
    return max(int(split.tokens.max()) for split in (corpus.train, corpus.test)) - INDEX_FROM
