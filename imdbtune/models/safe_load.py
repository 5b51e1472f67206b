"""Load untrusted ``.keras`` files: check them before Keras creates any object from them.

Such a file is a zip archive with a configuration of the layers, in JSON, and their weights. Keras
creates an object of every class that the configuration names. Its safe mode refuses code in the
file, but a class of Keras may itself read files, fetch addresses or load pickles. So only the
classes of this project's models, and plain layers like them, are allowed.
"""

from __future__ import annotations

import ast
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from imdbtune.errors import UserError, quote_path, short_repr
from imdbtune.files import require_regular_file

if TYPE_CHECKING:
    import keras

    from imdbtune.config.own_model import ModelSource

# Keras does not compress the members. Small archives pass at any ratio.
_MAX_EXPANSION = 10
_SMALL_BYTES = 64 * 2**20
_MAX_JSON_BYTES = 4 * 2**20  # this project's models have a few thousand
_MIN_WEIGHT_BYTES = 1  # of one number

_PLAIN_LAYERS = (
    *("InputLayer", "Embedding", "SimpleRNN", "LSTM", "GRU", "Bidirectional", "Dense", "Dropout"),
    *("RNN", "StackedRNNCells", "SimpleRNNCell", "LSTMCell", "GRUCell", "SpatialDropout1D"),
    *("GlobalMaxPooling1D", "GlobalAveragePooling1D", "Concatenate", "Add", "Masking", "Flatten"),
    *("Activation", "ReLU", "BatchNormalization", "LayerNormalization"),
)
# Layers of users' own models, which only compute as well.
_OWN_LAYERS = (
    *("Conv1D", "Conv1DTranspose", "SeparableConv1D", "DepthwiseConv1D", "MaxPooling1D"),
    *("AveragePooling1D", "ZeroPadding1D", "Cropping1D", "UpSampling1D", "TimeDistributed"),
    *("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupedQueryAttention"),
    *("Average", "Maximum", "Minimum", "Multiply", "Subtract", "Dot", "Permute", "Reshape"),
    *("RepeatVector", "GaussianDropout", "GaussianNoise", "AlphaDropout", "PReLU", "ELU"),
    *("LeakyReLU", "Softmax", "GroupNormalization", "RMSNormalization", "UnitNormalization"),
    *("SpectralNormalization", "EinsumDense", "Identity", "ActivityRegularization", "ConvLSTM1D"),
)
_MODULES = {  # module -> allowed classes; None: all, because they only compute
    "keras.layers": (*_PLAIN_LAYERS, *_OWN_LAYERS),
    "keras": ("DTypePolicy", "Functional", "Sequential"),
    "keras.src.models.functional": ("Functional",),
    "keras.src.models.sequential": ("Sequential",),
    "keras.src.ops.core": ("Cast", "StopGradient"),
    "keras.src.ops.nn": None,
    "keras.src.ops.numpy": None,
    "keras.initializers": None,
    "keras.regularizers": None,
    "keras.constraints": None,
    "keras.optimizers": None,
    None: ("__keras_tensor__", "__slice__"),
}


def load_keras(path: Path, source: ModelSource | None = None) -> keras.Model:
    """Return the uncompiled model of a ``.keras`` file, after :func:`check_archive`.

    Args:
        path: of the file.
        source: of a user's own model, trusted: it is run if the file has classes of it.

    Raises:
        UserError: the file is unsafe or damaged, or Keras cannot load it.
    """
    check_archive(path, source)
    import keras

    own: dict[str, Any] = {}
    if source is not None and names_of(path, source):
        from imdbtune.models.own_source import custom_objects

        own = custom_objects(source)
    try:
        return keras.models.load_model(path, custom_objects=own, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many types for damaged files
        raise UserError(
            f"{quote_path(path)} cannot be used ({load_failure_reason(error)})."
        ) from error


def load_failure_reason(error: Exception) -> str:
    """Return one line for the cause of a loading error; Keras prefixes the whole configuration."""
    message = str(getattr(error, "strerror", None) or error)
    message += " is missing" if isinstance(error, KeyError) else ""
    cause = message.rpartition("Exception encountered: ")[2].strip()
    return (cause.splitlines() or [type(error).__name__])[0][:200].rstrip(". ")


def has_known_layers_only(path: Path) -> bool:
    """Return whether a ``.keras`` file is safe to open, and needs no source of a user's model."""
    try:
        check_archive(path)
    except UserError:
        return False
    return True


def names_of(path: Path, source: ModelSource) -> list[str]:
    """Return the classes and functions of a source that a checked ``.keras`` file names."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    return sorted({str(e["class_name"]) for e in _objects(config) if _is_of(e, source)})


def _is_of(entry: dict[str, Any], source: ModelSource) -> bool:
    """Return whether an object of a file is one of a source's classes or functions."""
    module = source.file.removesuffix(".py")
    name = entry["config"] if entry["class_name"] == "function" else entry["class_name"]
    if entry.get("module") not in (module, "builtins" if name is entry.get("config") else module):
        return False
    return isinstance(name, str) and _defines(source.text, name)


def _defines(text: str, name: str) -> bool:
    """Return whether a source defines a class or a function of this name, without running it."""
    return any(
        isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
        for node in ast.walk(ast.parse(text))
    )


def check_archive(path: Path, source: ModelSource | None = None) -> None:
    """Check a ``.keras`` file, a zip archive, before anything in it is unpacked.

    Args:
        path: of the file.
        source: whose classes are allowed in addition.

    Raises:
        UserError: it is damaged, has a path outside its folder, unpacks to far more than its size,
            or names classes that may do more than compute.
    """
    name = quote_path(path)
    try:
        with zipfile.ZipFile(require_regular_file(path)) as archive:
            check_members(name, archive.infolist(), path.stat().st_size)
            broken = archive.testzip()  # Keras itself ignores wrong checksums
            if broken is None and "config.json" in archive.namelist():
                config = json.loads(archive.read("config.json"))
                _check_classes(name, config, source)
                _check_sizes(name, config, archive.infolist())
    except UserError:
        raise
    except Exception as error:  # zipfile, the decompressors and JSON raise many kinds
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} is not a readable .keras file ({reason}).") from error
    if broken is not None:
        raise UserError(f"{name} is not a readable .keras file ({short_repr(broken)} is damaged).")


def check_members(name: str, members: list[zipfile.ZipInfo], packed: int) -> None:
    """Check the names and sizes of the members of a zip archive.

    Args:
        name: of the archive, for messages.
        members: the entries of the archive.
        packed: size of the archive in bytes.

    Raises:
        UserError: a member has a path outside the folder, or they unpack to far more than
            ``packed``.
    """
    for member in members:
        if _is_outside(member.filename):
            raise UserError(
                f"{name} is not safe to open: it would unpack to {short_repr(member.filename)}."
            )
    json_bytes = sum(m.file_size for m in members if m.filename.endswith(".json"))
    if json_bytes > _MAX_JSON_BYTES:
        raise UserError(f"{name} is not safe to open: its description has {json_bytes:,} bytes.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_SMALL_BYTES, _MAX_EXPANSION * packed):
        raise UserError(
            f"{name} is not safe to open: {packed:,} bytes would unpack to {unpacked:,}."
        )


def _is_outside(member: str) -> bool:
    """Return whether a path is absolute or has ``..``, in POSIX or in Windows syntax."""
    path = PureWindowsPath(member)
    return bool(path.anchor) or ".." in path.parts


def _check_classes(name: str, config: object, source: ModelSource | None) -> None:
    for entry in _objects(config):
        if source is not None and _is_of(entry, source):
            continue
        module, class_name = entry.get("module"), entry["class_name"]
        is_hashable = module is None or isinstance(module, str)
        allowed = _MODULES.get(module, ()) if is_hashable else ()
        if not isinstance(class_name, str) or (allowed is not None and class_name not in allowed):
            raise UserError(
                f"{name} is not safe to open: it names {short_repr(class_name)} of "
                f"{short_repr(module)}, which "
                "may run code or read files; models of imdbtune have plain layers only."
            )


def _check_sizes(name: str, config: object, members: list[zipfile.ZipInfo]) -> None:
    """Refuse layers larger than the file: Keras allocates weights before it reads them."""
    available = sum(member.file_size for member in members)
    is_flat = any(entry["class_name"] == "Flatten" for entry in _objects(config))
    for entry in _objects(config):
        settings = entry.get("config")
        if not isinstance(settings, dict):
            continue
        heads = _int(settings.get("num_heads")) * _int(settings.get("key_dim"))
        units = max(heads, *(_int(settings.get(name)) for name in ("units", "filters")))
        recurrent = units * units * ("recurrent_initializer" in settings)
        embedded = _int(settings.get("input_dim")) * _int(settings.get("output_dim"))
        inputs = max((_input_size(shape, is_flat) for shape in _shapes(entry)), default=0)
        if _MIN_WEIGHT_BYTES * max(units, recurrent, embedded, inputs) > available:
            raise UserError(
                f"{name} is not safe to open: it describes a layer {entry['class_name']} "
                "whose weights are not in it."
            )


def _int(value: object) -> int:
    """Return an integer, or 0 for anything else, which Keras accepts as no size."""
    return value if isinstance(value, int) else 0


def _shapes(entry: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the input shapes in a layer's configuration, which determine its weights."""
    stack = [entry["config"].get("batch_shape"), entry.get("build_config")]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list):
            stack += [part for part in value if isinstance(part, (dict, list))]
            yield value


def _input_size(shape: list[Any], is_flat: bool) -> int:
    """Return a lower bound of the features that have weights; of flat inputs it is their size."""
    sizes = [abs(_int(size)) or 1 for size in shape]
    return math.prod(sizes) if is_flat else max(sizes, default=0)


def _objects(config: object) -> Iterator[dict[str, Any]]:
    """Yield the configurations of all objects, at any depth."""
    stack = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            stack += value.values()
        elif isinstance(value, list):
            stack += value
