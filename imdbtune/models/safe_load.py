"""Opens ``.keras`` files from elsewhere: they are checked before Keras makes anything of them.

Such a file is a zip archive with a description of the layers and their weights. Keras makes an
object of every class that the description names; its safe mode refuses code in the file, but a
class of Keras may itself read files, fetch addresses or load pickles. So only what models of
this project are made of, and plain layers like it, may be named.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from imdbtune.errors import UserError, quote_path, short_repr
from imdbtune.files import require_regular_file

# Keras stores without compressing. What is small is let pass, whatever its ratio.
_MOST_EXPANSION = 10
_HARMLESS_BYTES = 64 * 2**20
_MOST_DESCRIPTION = 4 * 2**20  # bytes of JSON; ours has a few thousand
_LEAST_WEIGHT = 1  # bytes of a number among the weights

_LAYERS = (
    *("InputLayer", "Embedding", "SimpleRNN", "LSTM", "GRU", "Bidirectional", "Dense", "Dropout"),
    *("RNN", "StackedRNNCells", "SimpleRNNCell", "LSTMCell", "GRUCell", "SpatialDropout1D"),
    *("GlobalMaxPooling1D", "GlobalAveragePooling1D", "Concatenate", "Add", "Masking", "Flatten"),
    *("Activation", "ReLU", "BatchNormalization", "LayerNormalization"),
)
_MODULES = {  # module -> its classes that a file may name; all of them: they compute and no more
    "keras.layers": _LAYERS,
    "keras": ("DTypePolicy", "Functional", "Sequential"),
    "keras.src.models.functional": ("Functional",),
    "keras.src.models.sequential": ("Sequential",),
    "keras.src.ops.core": ("Cast",),
    "keras.src.ops.nn": ("Sigmoid",),
    "keras.src.ops.numpy": None,
    "keras.initializers": None,
    "keras.optimizers": None,
    None: ("__keras_tensor__", "__slice__"),
}


def load_keras(path: Path) -> Any:
    """The model in a ``.keras`` file, not compiled, once :func:`check_archive` has passed it.

    Raises:
        UserError: it is unsafe, damaged, or nothing that Keras can make a model of.
    """
    check_archive(path)
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the damage led to
        raise UserError(
            f"{quote_path(path)} cannot be used ({load_failure_reason(error)})."
        ) from error


def load_failure_reason(error: Exception) -> str:
    """The first line of what went wrong; Keras puts that behind the whole configuration."""
    told = str(getattr(error, "strerror", None) or error)
    told += " is missing" if isinstance(error, KeyError) else ""
    text = told.rpartition("Exception encountered: ")[2].strip()
    return (text.splitlines() or [type(error).__name__])[0][:200].rstrip(". ")


def check_archive(path: Path) -> None:
    """Check a ``.keras`` file, a zip archive, before anything in it is unpacked.

    Raises:
        UserError: it is damaged, leads out of its folder, unpacks to far more than it is, or
            names layers that may do more than compute.
    """
    name = quote_path(path)
    try:
        with zipfile.ZipFile(require_regular_file(path)) as archive:
            check_members(name, archive.infolist(), path.stat().st_size)
            broken = archive.testzip()  # Keras itself overlooks wrong checksums
            if broken is None and "config.json" in archive.namelist():
                config = json.loads(archive.read("config.json"))
                _check_classes(name, config)
                _check_sizes(name, config, archive.infolist())
    except UserError:
        raise
    except Exception as error:  # zipfile, the decompressors and JSON raise many kinds
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{name} is not a readable .keras file ({why}).") from error
    if broken is not None:
        raise UserError(f"{name} is not a readable .keras file ({short_repr(broken)} is damaged).")


def check_members(name: str, members: list[zipfile.ZipInfo], packed: int) -> None:
    """Raise UserError if a member of a zip archive leads out, or they unpack to far too much.

    Args:
        name: of the archive, for messages.
        members: what is in it.
        packed: its size in bytes.
    """
    for member in members:
        if _leads_out(member.filename):
            raise UserError(
                f"{name} is not safe to open: it would unpack to {short_repr(member.filename)}."
            )
    described = sum(m.file_size for m in members if m.filename.endswith(".json"))
    if described > _MOST_DESCRIPTION:
        raise UserError(f"{name} is not safe to open: its description has {described:,} bytes.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_HARMLESS_BYTES, _MOST_EXPANSION * packed):
        raise UserError(
            f"{name} is not safe to open: {packed:,} bytes would unpack to {unpacked:,}."
        )


def _leads_out(member: str) -> bool:
    """Whether a member's name is absolute or climbs, read as POSIX or as Windows would."""
    path = PureWindowsPath(member)
    return bool(path.anchor) or ".." in path.parts


def _check_classes(name: str, config: Any) -> None:
    for described in _objects(config):
        module, kind = described.get("module"), described["class_name"]
        known = module is None or isinstance(module, str)
        allowed = _MODULES.get(module, ()) if known else ()
        if not isinstance(kind, str) or (allowed is not None and kind not in allowed):
            raise UserError(
                f"{name} is not safe to open: it names {short_repr(kind)} of "
                f"{short_repr(module)}, which "
                "may run code or read files; models of imdbtune have plain layers only."
            )


def _check_sizes(name: str, config: Any, members: list[zipfile.ZipInfo]) -> None:
    """Keras makes the weights that are described before it looks for them in the file."""
    there = sum(member.file_size for member in members)
    flat = any(described["class_name"] == "Flatten" for described in _objects(config))
    for described in _objects(config):
        settings = described.get("config")
        if not isinstance(settings, dict):
            continue
        units = _number(settings.get("units"))
        recurrent = units * units * ("recurrent_initializer" in settings)
        embedded = _number(settings.get("input_dim")) * _number(settings.get("output_dim"))
        read = max((_size(shape, flat) for shape in _shapes(described)), default=0)
        if _LEAST_WEIGHT * max(units, recurrent, embedded, read) > there:
            raise UserError(
                f"{name} is not safe to open: it describes a layer {described['class_name']} "
                "whose weights are not in it."
            )


def _number(value: Any) -> int:
    """Of text or a fraction Keras makes no size."""
    return value if isinstance(value, int) else 0


def _shapes(described: dict[str, Any]) -> Iterator[list[Any]]:
    """What is said of the shape that a layer reads, which decides how many weights it has."""
    left = [described["config"].get("batch_shape"), described.get("build_config")]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += [part for part in value if isinstance(part, (dict, list))]
            yield value


def _size(shape: list[Any], flat: bool) -> int:
    """For how many features a layer has weights at least, or all that it reads, if that is flat."""
    sizes = [abs(_number(size)) or 1 for size in shape]
    return math.prod(sizes) if flat else max(sizes, default=0)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every description of an object, however deep."""
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            left += value.values()
        elif isinstance(value, list):
            left += value
