"""Write export folders: in a temporary folder, which is moved after all formats are checked.

``metadata.json`` is moved last: a folder without it is not an export.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
    params_of,
    read_export,
    read_object,
    write_json,
)
from imdbtune.export.readme import readme
from imdbtune.files import JsonObject, is_disk_full, sync_folder


@dataclass(frozen=True)
class ExportContents:
    """What an export has besides its models.

    Args:
        word_index: word -> rank (from 1) of every word of the corpus. Words beyond the model's
            vocabulary are encoded as the unknown word, words that the corpus lacks are dropped.
        metadata: the contents of ``metadata.json``. Required are ``parameters`` (as in
            ``TrialParams.as_dict``) and ``batching`` (``buckets`` or ``padded``). The default of
            ``labels`` is "negative" and "positive".
    """

    word_index: Mapping[str, int]
    metadata: Mapping[str, object]


def write_export(
    folder: Path,
    formats: Sequence[str],
    contents: ExportContents,
    usage: str,
    add_models: Callable[[Path], None],
    check: Callable[[Path], Mapping[str, object]],
    overwrite: bool = False,
) -> Path:
    """Write an export folder, or add formats to one.

    Args:
        folder: the export folder. It may exist if it is empty, an export and ``overwrite`` is
            true, or an export of the same run, to which the formats are added.
        formats: the names of the formats; an export to which they are added must not have them.
        contents: the vocabulary and the metadata.
        usage: Markdown that shows how to use the models without imdbtune.
        add_models: called with a folder that has the metadata, the vocabulary and ``encode.py``;
            writes the model files there.
        check: called with the complete folder; raises, or returns for each format the result of
            its check, which is written to ``metadata.json``.
        overwrite: replace the files of an export. No other file is ever replaced or deleted.

    Returns:
        The absolute path of the folder.

    Raises:
        UserError: the folder cannot be written or holds other files, or the vocabulary is empty.
        DiskFull: there is no room; the folder is unchanged.
    """
    _check_vocabulary(contents.word_index)
    target = _resolve(folder)
    document = _document(formats, contents.metadata)
    with _write_errors(folder):
        existing = _existing_formats(target, document.get("run_id"), formats, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        parent = target if target.is_dir() else target.parent
        with tempfile.TemporaryDirectory(prefix=".imdbtune-", dir=parent) as temporary:
            new = Path(temporary, "new")
            new.mkdir()  # with the usual permissions; the temporary folder is private
            _write_common_files(new, document, contents.word_index, usage)
            add_models(new)
            old_files = _files_of(target) if existing else set()
            _finish(new, {**document, "formats": {**existing, **check(new)}}, old_files)
            if existing:
                _add(new, target)
            else:
                _move(new, target, Path(temporary))
    return target


def _check_vocabulary(word_index: Mapping[str, int]) -> None:
    if not word_index:
        raise UserError(
            "the corpus has no word index, so the model could not read text; put "
            "imdb_word_index.json next to the .npz file and run again."
        )


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Raise DiskFull or UserError for an error of writing ``folder``."""
    try:
        yield
    except (OSError, UnicodeEncodeError) as error:
        if is_disk_full(error):
            reason = getattr(error, "strerror", None) or error
            raise DiskFull(
                f"{quote_path(folder)} has no room for the export ({reason}); free some space, or "
                "choose another folder."
            ) from error
        raise not_writable(folder, error) from error


def _document(formats: Sequence[str], metadata: Mapping[str, object]) -> dict[str, object]:
    """Return the contents of ``metadata.json``: ``metadata`` and the keys of the format."""
    params = params_of(metadata)
    own = {
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
    return {**own, **metadata, **own}  # in this order, and the format's own values win


def _resolve(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links
        raise not_writable(folder, error) from error


def formats_there(
    folder: Path, run_id: object, names: Sequence[str], overwrite: bool
) -> JsonObject:
    """Return the formats of the existing export to which ``names`` will be added.

    The result maps names to the results of their checks. It is empty if a new export is to be
    written, or an old one replaced. Nothing is created.

    Args:
        folder: the export folder.
        run_id: run of the model.
        names: names of the formats to add.
        overwrite: whether an export may be replaced.

    Raises:
        UserError: the formats may not be written to ``folder``.
    """
    try:
        return _existing_formats(_resolve(folder), run_id, names, overwrite)
    except OSError as error:
        raise not_writable(folder, error) from error


def _check_writable(folder: Path, existing: Path) -> None:
    """Raise UserError unless ``existing``, the folder or a parent, is writable.

    So nothing is trained or evaluated for an export that cannot be written.
    """
    if not os.access(existing, os.W_OK):
        raise not_writable(folder, PermissionError("no write permission, or a read-only disk"))


def _existing_formats(
    folder: Path, run_id: object, names: Sequence[str], overwrite: bool
) -> JsonObject:
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{quote_path(folder)} is a file; give the name of a new folder.")
        parent = next(path for path in folder.parents if path.exists())
        if not parent.is_dir():
            raise not_writable(folder, NotADirectoryError(f"{quote_path(parent)} is a file"))
        _check_writable(folder, parent)
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
    existing = read_export(folder).formats
    if all(name in existing for name in names):
        raise UserError(
            f"{quote_path(folder)} is an export already, of the same run as {', '.join(names)}; "
            "name another format to add it, or --overwrite."
        )
    return existing


def _write_common_files(
    new: Path, document: Mapping[str, object], word_index: Mapping[str, int], usage: str
) -> None:
    """Write the files that every export has."""
    write_json(new / METADATA, document, indent=2)
    write_json(new / VOCABULARY, dict(word_index))
    shutil.copyfile(encode.__file__, new / ENCODE)
    (new / README).write_text(readme(document, usage), encoding="utf-8")


def _finish(new: Path, document: Mapping[str, object], old_files: set[str]) -> None:
    """Write the final metadata, and flush all files to the disk."""
    files = sorted({file.name for file in new.iterdir()} | old_files)
    write_json(new / METADATA, {**document, "files": files}, indent=2)
    sync_folder(new)


def _files_of(folder: Path) -> set[str]:
    """Return the names of the export's files and folders in ``folder``, which may have others."""
    listed = read_object(folder / METADATA).get("files")
    return {e.name for e in folder.iterdir() if isinstance(listed, list) and e.name in listed}


def _add(new: Path, folder: Path) -> None:
    """Move the files of ``new`` to the export in ``folder``, replacing files of the same name.

    The export is complete at any time: other files stay, and ``metadata.json`` is moved last.
    """
    entries = sorted(new.iterdir(), key=lambda entry: entry.name == METADATA)
    own_files = _files_of(folder)
    for entry in entries:
        if entry.name not in own_files and (folder / entry.name).exists():
            raise UserError(
                f"{quote_path(folder)} has {short_repr(entry.name)}, which does not belong to the "
                "export; move it, or choose a new folder."
            )
    for entry in entries:
        entry.replace(folder / entry.name)


def _move(new: Path, folder: Path, temporary: Path) -> None:
    """Move the files of ``new`` to ``folder``, and those of an old export to ``temporary``.

    An existing folder is not replaced: it may be a mount point or the working directory. Its old
    ``metadata.json`` is moved first and the new one last, so that no reader sees half of each.
    """
    if not folder.is_dir():
        new.rename(folder)
        return
    if is_export(folder):
        for name in sorted(_files_of(folder), key=lambda name: name != METADATA):
            (folder / name).rename(temporary / name)
    for entry in sorted(new.iterdir(), key=lambda entry: entry.name == METADATA):
        entry.rename(folder / entry.name)
