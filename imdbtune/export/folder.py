"""Read what all export formats share: the folder, its metadata and its vocabulary.

A folder holds one model in one or several formats. Each format reads and writes its own files;
everything else is read here, and written in :mod:`imdbtune.export.writing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imdbtune.config.hyperparameters import OF_REVIEWS, TrialParams, check_value
from imdbtune.data.corpus import LABELS
from imdbtune.data.imdb import read_word_index
from imdbtune.data.labels import MOST
from imdbtune.errors import UserError, quote_path, short_repr, unknown_choice
from imdbtune.files import JsonObject, read_small_text

FORMAT = "imdbtune-export"
FORMAT_VERSION = 1
METADATA = "metadata.json"
VOCABULARY = "vocabulary.json"
README = "README.md"
ENCODE = "encode.py"
BATCHINGS = ("buckets", "padded")


@dataclass(frozen=True)
class Export:
    """The contents of an export folder, except the model itself."""

    folder: Path
    metadata: JsonObject  # all of metadata.json
    formats: JsonObject  # "keras", ... -> result of its check
    word_index: dict[str, int]  # word -> rank, 1 = most frequent
    vocabulary: int  # ids from here on are the unknown word
    maxlen: int  # maximum tokens of a review, its last ones
    batching: str  # "padded": the model reads padding like words, so always pad to maxlen
    labels: tuple[str, ...] = LABELS  # two: the meaning of probabilities 0 and 1; or one a column
    members: tuple[TrialParams, ...] = ()  # of an ensemble, without a linear model
    trusted: bool = False  # the source of a user's own model in the folder may be run


def read_export(folder: Path, trusted: bool = False) -> Export:
    """Read an export folder, without its models, which the formats read.

    Args:
        folder: of the export.
        trusted: the source of a user's own model in the folder may be run.

    Raises:
        UserError: the folder is not an export, of another version, or damaged.
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
            members=checked_params("members", metadata.get("members", [])),
            trusted=trusted,
        )
    except UserError as error:
        raise damaged(folder, str(error)) from error


def networks_of(export: Export) -> tuple[TrialParams, ...]:
    """Return the hyperparameters of each recurrent network: of one, or of an ensemble's members.

    Raises:
        UserError: the metadata lack them.
    """
    if export.members:
        return export.members
    try:
        return checked_params("parameters", [export.metadata.get("parameters")])
    except UserError as error:
        raise damaged(export.folder, str(error)) from error


def checked_params(name: str, value: object) -> tuple[TrialParams, ...]:
    """Return the hyperparameters in a list of objects, or raise UserError."""
    if not isinstance(value, list) or not all(isinstance(params, dict) for params in value):
        raise UserError(f"{name} {short_repr(value)} are not hyperparameters with their values.")
    return tuple(TrialParams.from_values(params) for params in value)


def params_of(metadata: Mapping[str, object]) -> TrialParams:
    """Return the hyperparameters in the metadata; of a user's own model, only those of ours."""
    values = metadata["parameters"]
    if "own_model" in metadata and isinstance(values, dict):
        values = {name: value for name, value in values.items() if name in OF_REVIEWS}
    (params,) = checked_params("parameters", [values])
    return params


def is_export(folder: Path) -> bool:
    """Return whether the folder has an export, which may be damaged."""
    try:
        return bool(read_object(folder / METADATA).get("format") == FORMAT)
    except UserError:
        return False


def write_json(path: Path, document: Mapping[str, object], indent: int | None = None) -> None:
    """Write a JSON file, on one line unless ``indent`` is given."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(document, indent=indent, separators=separators, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def damaged(folder: Path, reason: str) -> UserError:
    """Return the error for a damaged export folder; ``reason`` is a sentence."""
    return UserError(
        f"the export in {quote_path(folder)} is damaged: {reason} Export the model again."
    )


def _checked_formats(value: object) -> JsonObject:
    if not isinstance(value, dict) or not value:
        raise UserError(f"formats {short_repr(value)} is not an object of formats.")
    return value


def checked_batching(value: object) -> str:
    """Return a valid batching, or raise UserError."""
    if value not in BATCHINGS:
        raise unknown_choice("batching", value, BATCHINGS)
    return str(value)


def checked_labels(value: object) -> tuple[str, ...]:
    """Return 2 to 100 label names, or raise UserError."""
    names = value if isinstance(value, (list, tuple)) and 2 <= len(value) <= MOST else [None]
    if all(isinstance(name, str) and name.isprintable() for name in names):
        return tuple(names)
    raise UserError(f"labels {short_repr(value)} are not 2 to {MOST} names.")


def read_object(path: Path) -> JsonObject:
    """Return the object in a JSON file of an export, or raise UserError."""
    try:
        document = json.loads(read_small_text(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _no_export(path.parent, f"{path.name} cannot be read: {reason}") from error
    if not isinstance(document, dict):
        raise _no_export(path.parent, f"{path.name} does not hold a JSON object")
    return document


def _no_export(folder: Path, reason: str) -> UserError:
    return UserError(
        f"{quote_path(folder)} is no export of imdbtune ({reason}); give a folder that "
        "imdbtune best --export wrote."
    )


def not_writable(folder: Path, error: Exception) -> UserError:
    """Return the error for a folder that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{quote_path(folder)} cannot be written ({reason}); choose another folder.")
