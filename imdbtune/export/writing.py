"""Writes export folders: made aside, they appear when all in them has been tried.

``metadata.json`` comes last: a folder without it is no export.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import INDEX_FROM, LABELS, OOV, PAD, START
from imdbtune.data.text import SEPARATORS
from imdbtune.errors import DiskFull, UserError, quote_path, short_repr
from imdbtune.export import encode
from imdbtune.export.folder import (
    ENCODE,
    FORMAT,
    FORMAT_VERSION,
    METADATA,
    README,
    VOCABULARY,
    checked_batching,
    checked_labels,
    is_export,
    not_writable,
    read_export,
    read_object,
    write_json,
)
from imdbtune.export.readme import readme
from imdbtune.files import is_disk_full


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
        folder: where to. It may exist if it is empty, an export and ``overwrite`` is true, or an
            export of the same run, to which the formats are then added.
        formats: the names of the formats; none that such an export has.
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
        DiskFull: there is no room; the folder is as it was.
    """
    if not word_index:
        raise UserError(
            "the corpus has no word index, so the model could not read text; put "
            "imdb_word_index.json beside the .npz file and run again."
        )
    target = _resolved(folder)
    document = _document(formats, metadata)
    try:
        there = _to_add_to(target, document.get("run_id"), formats, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target if target.is_dir() else target.parent
        with tempfile.TemporaryDirectory(prefix=".imdbtune-", dir=beside) as temporary:
            new = Path(temporary, "new")
            new.mkdir()  # unlike the temporary folder, others may read it
            _add_common(new, document, word_index, usage)
            add_models(new)
            kept = _files_of(target) if there else set()
            _finish(new, {**document, "formats": {**there, **check(new)}}, kept)
            if there:
                _add(new, target)
            else:
                _move(new, target, Path(temporary))
    except (OSError, UnicodeEncodeError) as error:
        if is_disk_full(error):
            reason = getattr(error, "strerror", None) or error
            raise DiskFull(
                f"{quote_path(folder)} has no room for the export ({reason}); make some, or choose "
                "another folder."
            ) from error
        raise not_writable(folder, error) from error
    return target


def _document(formats: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    params = TrialParams.from_values(metadata["parameters"])
    ours = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "formats": {name: {} for name in formats},
        "vocabulary": params.vocabulary,
        "maxlen": params.maxlen,
        "batching": checked_batching(metadata["batching"]),
        "labels": list(checked_labels(metadata.get("labels", LABELS))),
        "padding": "front",
        "separators": SEPARATORS,
        "ids": {"padding": PAD, "start": START, "unknown": OOV, "rank_offset": INDEX_FROM},
    }
    return {**ours, **metadata, **ours}


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in it, a loop of links
        raise not_writable(folder, error) from error


def formats_there(
    folder: Path, run_id: object, names: Sequence[str], overwrite: bool
) -> dict[str, Any]:
    """The formats of the export to which ``names`` will be added, with how they were checked.

    There are none where a new export is written, or another replaced. Creates nothing.

    Args:
        folder: where an export is to be written.
        run_id: of the model.
        names: of formats.
        overwrite: whether an export may be replaced.

    Raises:
        UserError: unless an export may be written to ``folder``.
    """
    try:
        return _to_add_to(_resolved(folder), run_id, names, overwrite)
    except OSError as error:
        raise not_writable(folder, error) from error


def _check_writable(folder: Path, there: Path) -> None:
    """Before anything is trained or evaluated for an export that has no place."""
    if not os.access(there, os.W_OK):
        raise not_writable(folder, PermissionError("no right to write there, or a read-only disk"))


def _to_add_to(
    folder: Path, run_id: object, names: Sequence[str], overwrite: bool
) -> dict[str, Any]:
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{quote_path(folder)} is a file; give the name of a new folder.")
        above = next(path for path in folder.parents if path.exists())
        if not above.is_dir():
            raise not_writable(folder, NotADirectoryError(f"{quote_path(above)} is a file"))
        _check_writable(folder, above)
        return {}
    _check_writable(folder, folder)
    files = sorted(entry.name for entry in folder.iterdir())
    if files and not is_export(folder):
        raise UserError(
            f"{quote_path(folder)} holds other files ({short_repr(files[0])}, "
            "...); choose a new folder."
        )
    if overwrite or not files:
        return {}
    if not run_id or read_object(folder / METADATA).get("run_id") != run_id:
        raise UserError(
            f"{quote_path(folder)} is an export already, of another run; choose a new folder or "
            "--overwrite."
        )
    there = read_export(folder).formats
    if all(name in there for name in names):
        raise UserError(
            f"{quote_path(folder)} is an export already, of the same run as "
            f"{', '.join(names)}; name "
            "another format to add it, or --overwrite."
        )
    return there


def _add_common(
    new: Path, document: Mapping[str, Any], word_index: Mapping[str, int], usage: str
) -> None:
    """Add what every export has."""
    write_json(new / METADATA, document, indent=2)
    write_json(new / VOCABULARY, dict(word_index))
    shutil.copyfile(encode.__file__, new / ENCODE)
    (new / README).write_text(readme(document, usage), encoding="utf-8")


def _finish(new: Path, document: Mapping[str, Any], kept: set[str]) -> None:
    """Write the metadata anew, and wait until all is on the disk, not only in memory."""
    files = sorted({file.name for file in new.iterdir()} | kept)
    write_json(new / METADATA, {**document, "files": files}, indent=2)
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _files_of(folder: Path) -> set[str]:
    """The files and folders of the export in ``folder``; others may lie beside them."""
    listed = read_object(folder / METADATA).get("files")
    return {e.name for e in folder.iterdir() if isinstance(listed, list) and e.name in listed}


def _add(new: Path, folder: Path) -> None:
    """Put the files of ``new`` beside those of the export in ``folder``, or in their place.

    It is a whole export at every moment: what it had stays, and ``metadata.json`` comes last.
    """
    entries = sorted(new.iterdir(), key=lambda entry: entry.name == METADATA)
    ours = _files_of(folder)
    for entry in entries:
        if entry.name not in ours and (folder / entry.name).exists():
            raise UserError(
                f"{quote_path(folder)} has {short_repr(entry.name)}, which is not of the export; "
                "move that, or choose a new folder."
            )
    for entry in entries:
        entry.replace(folder / entry.name)


def _move(new: Path, folder: Path, temporary: Path) -> None:
    """Put the files of ``new`` into ``folder``; those of an old export go to ``temporary``.

    A folder that is there stays the same one: it may be a mount or the working directory. In it
    ``metadata.json`` goes first and comes last, so that nobody reads half of each.
    """
    if not folder.is_dir():
        new.rename(folder)
        return
    if is_export(folder):
        for name in sorted(_files_of(folder), key=lambda name: name != METADATA):
            (folder / name).rename(temporary / name)
    for entry in sorted(new.iterdir(), key=lambda entry: entry.name == METADATA):
        entry.rename(folder / entry.name)
