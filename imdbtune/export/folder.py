"""What the export formats share: the folder, its metadata and its vocabulary.

A folder holds one model in one or several formats. They add their own files and the way to use
them; everything else is written and read here. The folder is made aside and appears when all in
it has been tried; ``metadata.json`` comes last: a folder without it is no export.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdbtune.data.corpus import INDEX_FROM, LABELS, OOV, PAD, START
from imdbtune.data.imdb import read_word_index
from imdbtune.data.text import SEPARATORS
from imdbtune.errors import UserError, not_one_of, shown
from imdbtune.export import encode
from imdbtune.export.readme import readme
from imdbtune.params import TrialParams, check_value
from imdbtune.plainfile import read_document

FORMAT = "imdbtune-export"
FORMAT_VERSION = 1
METADATA = "metadata.json"
VOCABULARY = "vocabulary.json"
README = "README.md"
ENCODE = "encode.py"
BATCHINGS = ("buckets", "padded")


@dataclass(frozen=True)
class Export:
    """An export folder as read: whatever predicting needs to know beside the model itself."""

    folder: Path
    metadata: dict[str, Any]  # all of metadata.json
    formats: dict[str, dict[str, Any]]  # "keras", ... -> how it was checked
    word_index: dict[str, int]  # word -> rank, 1 = most frequent
    vocabulary: int  # ids from here on are the unknown word
    maxlen: int  # tokens kept of a review, its last ones
    batching: str  # "padded": the model reads padding like words, always pad to maxlen
    labels: tuple[str, str] = LABELS  # what a probability of 0 and of 1 mean


def write_export(
    folder: Path,
    formats: Sequence[str],
    add_models: Callable[[Path], None],
    check: Callable[[Path], Mapping[str, Any]],
    word_index: Mapping[str, int],
    metadata: Mapping[str, Any],
    usage: str,
    overwrite: bool = False,
) -> Path:
    """Write an export folder; it, or at least its metadata, appears when all else is there.

    Args:
        folder: where to. It may exist if it is empty, or an export and ``overwrite`` is true.
        formats: the names of the formats.
        add_models: called with the folder to put the model files into, in which metadata,
            vocabulary and ``encode.py`` are.
        check: called with the folder when all is in it; raises, or returns the result for each
            format, which goes into ``metadata.json``.
        word_index: word -> rank (from 1) of every word of the corpus: words beyond the model's
            vocabulary are unknown words to it, words that the corpus lacks are dropped.
        metadata: what goes into ``metadata.json``; ``parameters`` (by name, as in
            ``TrialParams.as_dict``) and ``batching`` (``buckets`` or ``padded``) are needed;
            ``labels`` are "negative" and "positive" if it does not say.
        usage: Markdown that shows how to use the models without imdbtune.
        overwrite: replace the files of an export. No other file is ever replaced or deleted.

    Returns:
        The absolute path of the folder.

    Raises:
        UserError: the folder cannot be written or holds something else, or there are no words.
    """
    if not word_index:
        raise UserError(
            "the corpus has no word index, so the model could not read text; put "
            "imdb_word_index.json beside the .npz file and run again."
        )
    document = _document(formats, metadata)
    target = _resolved(folder)
    try:
        _check_free(target, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target if target.is_dir() else target.parent
        with tempfile.TemporaryDirectory(prefix=".imdbtune-", dir=beside) as temporary:
            new = Path(temporary, "new")
            new.mkdir()  # unlike the temporary folder, others may read it
            _add_common(new, document, word_index, usage)
            add_models(new)
            _finish(new, {**document, "formats": dict(check(new))})
            _move(new, target, Path(temporary))
    except (OSError, UnicodeEncodeError) as error:
        raise _not_writable(folder, error) from error
    return target


def _document(formats: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    params = TrialParams.from_values(metadata["parameters"])
    ours = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "formats": {name: {} for name in formats},
        "vocabulary": params.vocabulary,
        "maxlen": params.maxlen,
        "batching": _checked_batching(metadata["batching"]),
        "labels": list(_checked_labels(metadata.get("labels", LABELS))),
        "padding": "front",
        "separators": SEPARATORS,
        "ids": {"padding": PAD, "start": START, "unknown": OOV, "rank_offset": INDEX_FROM},
    }
    return {**ours, **metadata, **ours}


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in it, a loop of links
        raise _not_writable(folder, error) from error


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise UserError unless an export may be written to ``folder``; creates nothing."""
    try:
        _check_free(_resolved(folder), overwrite)
    except OSError as error:
        raise _not_writable(folder, error) from error


def _check_free(folder: Path, overwrite: bool) -> None:
    """Raise UserError unless an export may be written to ``folder``."""
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{_named(folder)} is a file; give the name of a new folder.")
        there = next(path for path in folder.parents if path.exists())
        if not there.is_dir():
            raise _not_writable(folder, NotADirectoryError(f"{_named(there)} is a file"))
        return
    names = sorted(entry.name for entry in folder.iterdir())
    if names and not _is_export(folder):
        raise UserError(
            f"{_named(folder)} holds other files ({shown(names[0])}, ...); choose a new folder."
        )
    if names and not overwrite:
        raise UserError(
            f"{_named(folder)} is an export already; choose a new folder or --overwrite."
        )


def _is_export(folder: Path) -> bool:
    try:
        return bool(_read_object(folder / METADATA).get("format") == FORMAT)
    except UserError:
        return False


def _add_common(
    new: Path, document: Mapping[str, Any], word_index: Mapping[str, int], usage: str
) -> None:
    """Add what every export has."""
    write_json(new / METADATA, document, indent=2)
    write_json(new / VOCABULARY, dict(word_index))
    shutil.copyfile(encode.__file__, new / ENCODE)
    (new / README).write_text(readme(document, usage), encoding="utf-8")


def _finish(new: Path, document: Mapping[str, Any]) -> None:
    """Write the metadata anew, and wait until all is on the disk, not only in memory."""
    files = sorted(file.name for file in new.iterdir())
    write_json(new / METADATA, {**document, "files": files}, indent=2)
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _move(new: Path, folder: Path, temporary: Path) -> None:
    """Put the files of ``new`` into ``folder``; those of an old export go to ``temporary``.

    A folder that is there stays the same one: it may be a mount or the working directory. In it
    ``metadata.json`` goes first and comes last, so that nobody reads half of each.
    """
    if not folder.is_dir():
        new.rename(folder)
        return
    if _is_export(folder):
        listed = _read_object(folder / METADATA).get("files")
        old = [e for e in folder.iterdir() if isinstance(listed, list) and e.name in listed]
        for entry in sorted(old, key=lambda entry: entry.name != METADATA):
            entry.rename(temporary / entry.name)
    for entry in sorted(new.iterdir(), key=lambda entry: entry.name == METADATA):
        entry.rename(folder / entry.name)


def write_json(path: Path, document: Mapping[str, Any], indent: int | None = None) -> None:
    """Write a JSON file, on one line unless ``indent`` is given."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(document, indent=indent, separators=separators, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_export(folder: Path) -> Export:
    """Read what :func:`write_export` wrote; the model files are the format's business.

    Raises:
        UserError: the folder is none of ours, of a later version, or something in it is damaged.
    """
    metadata = _read_object(folder / METADATA)
    if metadata.get("format") != FORMAT:
        raise _no_export(folder, f"{METADATA} is from something else")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{_named(folder)} has export version {shown(metadata.get('format_version'))}, this "
            f"imdbtune reads version {FORMAT_VERSION}; export the model again with this one."
        )
    try:
        return Export(
            folder=folder,
            metadata=metadata,
            formats=_checked_formats(metadata.get("formats", {"keras": {}})),
            word_index=read_word_index(folder / VOCABULARY),
            vocabulary=int(check_value("vocabulary", metadata.get("vocabulary"))),
            maxlen=int(check_value("maxlen", metadata.get("maxlen"))),
            batching=_checked_batching(metadata.get("batching")),
            labels=_checked_labels(metadata.get("labels", LABELS)),
        )
    except UserError as error:
        raise damaged(folder, str(error)) from error


def damaged(folder: Path, what: str) -> UserError:
    """The ``UserError`` for an export folder in which something is wrong."""
    return UserError(f"the export in {_named(folder)} is damaged: {what} Export the model again.")


def _checked_formats(value: object) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"formats {shown(value)} is no object of formats.")
    return value


def _checked_batching(value: object) -> str:
    if value not in BATCHINGS:
        raise not_one_of("batching", value, BATCHINGS)
    return str(value)


def _checked_labels(value: object) -> tuple[str, str]:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        first, second = value
        if all(isinstance(name, str) and name.isprintable() for name in value):
            return first, second
    raise UserError(f"labels {shown(value)} are not two names.")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_document(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _no_export(path.parent, f"{path.name} cannot be read: {reason}") from error
    if not isinstance(document, dict):
        raise _no_export(path.parent, f"{path.name} does not hold a JSON object")
    return document


def _no_export(folder: Path, why: str) -> UserError:
    return UserError(
        f"{_named(folder)} is no export of imdbtune ({why}); give a folder that imdbtune best "
        "--export wrote."
    )


def _not_writable(folder: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{_named(folder)} cannot be written ({reason}); choose another folder.")


def _named(folder: Path) -> str:
    return shown(str(folder), limit=300)
