"""What the export formats share: the folder, its metadata and its vocabulary.

A folder holds one model in one or several formats. They add their own files and the way to use
them; everything else is read here, and written in :mod:`imdbtune.export.writing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdbtune.config.hyperparameters import TrialParams, check_value
from imdbtune.data.corpus import LABELS
from imdbtune.data.imdb import read_word_index
from imdbtune.errors import UserError, quote_path, short_repr, unknown_choice
from imdbtune.files import read_small_text

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
    members: tuple[TrialParams, ...] = ()  # of an ensemble, but for a linear model


def read_export(folder: Path) -> Export:
    """Read an export folder, but not its models: they are the business of their formats.

    Raises:
        UserError: the folder is none of ours, of a later version, or something in it is damaged.
    """
    metadata = read_object(folder / METADATA)
    if metadata.get("format") != FORMAT:
        raise _no_export(folder, f"{METADATA} is from something else")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{quote_path(folder)} has export version "
            f"{short_repr(metadata.get('format_version'))}, this "
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
            batching=checked_batching(metadata.get("batching")),
            labels=checked_labels(metadata.get("labels", LABELS)),
            members=_checked_params("members", metadata.get("members", [])),
        )
    except UserError as error:
        raise damaged(folder, str(error)) from error


def networks_of(export: Export) -> tuple[TrialParams, ...]:
    """The hyperparameters of each network whose mean the model is: of one, unless an ensemble.

    Raises:
        UserError: the export does not say.
    """
    if export.members:
        return export.members
    try:
        return _checked_params("parameters", [export.metadata.get("parameters")])
    except UserError as error:
        raise damaged(export.folder, str(error)) from error


def _checked_params(name: str, value: object) -> tuple[TrialParams, ...]:
    if not isinstance(value, list) or not all(isinstance(params, dict) for params in value):
        raise UserError(f"{name} {short_repr(value)} are no hyperparameters with their values.")
    return tuple(TrialParams.from_values(params) for params in value)


def is_export(folder: Path) -> bool:
    """Whether there is one in the folder, sound or damaged."""
    try:
        return bool(read_object(folder / METADATA).get("format") == FORMAT)
    except UserError:
        return False


def write_json(path: Path, document: Mapping[str, Any], indent: int | None = None) -> None:
    """Write a JSON file, on one line unless ``indent`` is given."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(document, indent=indent, separators=separators, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def damaged(folder: Path, what: str) -> UserError:
    """The ``UserError`` for an export folder in which something is wrong."""
    return UserError(
        f"the export in {quote_path(folder)} is damaged: {what} Export the model again."
    )


def _checked_formats(value: object) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"formats {short_repr(value)} is no object of formats.")
    return value


def checked_batching(value: object) -> str:
    """A batching, or UserError."""
    if value not in BATCHINGS:
        raise unknown_choice("batching", value, BATCHINGS)
    return str(value)


def checked_labels(value: object) -> tuple[str, str]:
    """Two names, or UserError."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        first, second = value
        if all(isinstance(name, str) and name.isprintable() for name in value):
            return first, second
    raise UserError(f"labels {short_repr(value)} are not two names.")


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of an export, or UserError."""
    try:
        document = json.loads(read_small_text(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _no_export(path.parent, f"{path.name} cannot be read: {reason}") from error
    if not isinstance(document, dict):
        raise _no_export(path.parent, f"{path.name} does not hold a JSON object")
    return document


def _no_export(folder: Path, why: str) -> UserError:
    return UserError(
        f"{quote_path(folder)} is no export of imdbtune ({why}); give a folder that imdbtune best "
        "--export wrote."
    )


def not_writable(folder: Path, error: Exception) -> UserError:
    """The ``UserError`` for a folder to which nothing can be written."""
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{quote_path(folder)} cannot be written ({reason}); choose another folder.")
