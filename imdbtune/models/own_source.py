"""Run the source of a user's own model: its function, and a model for given values."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import numpy.typing as npt

from imdbtune.config.hyperparameters import Scalar, TrialParams
from imdbtune.config.own_model import ModelSource
from imdbtune.errors import TrialFailed, UserError
from imdbtune.models.own_code import error_in, find_attribute, is_of, load_module

ATTEMPTS = 10  # to build a model as before; one that draws by itself never does

Build = Callable[[keras_tuner.HyperParameters], keras.Model]


def build_function(source: ModelSource) -> Build:
    """Return the function of a source that builds models: ``build``, or that of a HyperModel.

    Raises:
        UserError: the source cannot be run, or has no such function.
    """
    found = find_attribute(source)
    if inspect.isclass(found) and issubclass(found, keras_tuner.HyperModel):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise error_in(source.file, error, f"{source.function}() raises") from error
    if isinstance(found, keras_tuner.HyperModel):
        if type(found).fit is not keras_tuner.HyperModel.fit:
            line = type(found).fit.__code__.co_firstlineno
            raise UserError(
                f"{source.file}:{line}: {source.function} has a method fit, but imdbtune trains "
                "the model itself; remove fit."
            )
        found = found.build
    if not callable(found) or inspect.isclass(found):
        raise UserError(
            f"{source.file} has {source.function}, which is neither a function build(hp) nor a "
            "class of Keras Tuner's HyperModel."
        )
    build: Build = found
    return build


def custom_objects(source: ModelSource) -> dict[str, Any]:
    """Return the classes and functions that a source defines, by name."""
    module = load_module(source.file, source.text)
    own = [value for value in vars(module).values() if _is_class_of(value, module)]
    for value in own:
        package, is_registered, name = keras.saving.get_registered_name(value).partition(">")
        if is_registered:  # again, as another copy of the source may have registered its own
            keras.saving.register_keras_serializable(package, name)(value)
    return {key: v for v in own for key in (v.__name__, keras.saving.get_registered_name(v))}


def _is_class_of(value: object, module: types.ModuleType) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and is_of(value, module)


def call_build(
    source: ModelSource, values: Mapping[str, Scalar]
) -> tuple[keras.Model, keras_tuner.HyperParameters]:
    """Return a model for these hyperparameters, and Keras Tuner's record of what was drawn.

    Raises:
        UserError: the function raises, or returns no model.
    """
    build, hp = build_function(source), keras_tuner.HyperParameters()
    hp.values = dict(values)
    try:
        model = build(hp)
    except (Exception, SystemExit) as error:
        what = f"{source.function} raises"
        raise error_in(source.file, error, what, where(source)) from error
    if not isinstance(model, keras.Model):
        raise UserError(
            f"{where(source)}: {source.function} returns {_type_name(model)}, not a keras.Model."
        )
    return model, hp


def where(source: ModelSource) -> str:
    """Return the file and the line where the function that builds models begins."""
    code = getattr(inspect.unwrap(build_function(source)), "__code__", None)
    return f"{source.file}:{code.co_firstlineno}" if code else source.file


def _type_name(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def build_own(source: ModelSource, params: TrialParams, seed: int = 0) -> keras.Model:
    """Return the own model of a configuration, with weights that depend on the seed alone.

    Keras draws the seeds of initializers from Python's global random state, which the other
    threads of a worker share. So the model is built until two builds in a row agree.

    Raises:
        TrialFailed: the function raises, returns no model, or draws what the search space lacks.
    """
    try:
        model = _build_once(source, params, seed)
        for _ in range(ATTEMPTS):
            previous, model = model, _build_once(source, params, seed)
            if _same_weights(previous, model):
                break
        return model
    except UserError as error:
        raise TrialFailed(str(error)) from error


def _build_once(source: ModelSource, params: TrialParams, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    values = params.as_dict()
    model, hp = call_build(source, values)
    for drawn in hp.space:
        if hp.is_active(drawn) and drawn.name not in values:
            raise UserError(
                f"{source.file}: {source.function} draws {drawn.name}, which no dry build has "
                "found and the search space lacks; draw it in every call, or in a "
                "hp.conditional_scope."
            )
    ensure_built(model, params.maxlen)
    return model


def ensure_built(model: keras.Model, maxlen: int) -> None:
    """Create the weights of a model that does not know the shape of its input yet."""
    if not model.built:
        model(np.zeros((1, maxlen), np.int32), training=False)


def _same_weights(one: keras.Model, other: keras.Model) -> bool:
    pairs: zip[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
    pairs = zip(one.get_weights(), other.get_weights(), strict=False)
    return all(np.array_equal(a, b) for a, b in pairs)


def save_own(model: keras.Model, path: Path, classes: int = 2) -> None:
    """Save a model without the user's optimizer, loss and metrics, which may need their code."""
    loss = "binary_crossentropy" if classes == 2 else "sparse_categorical_crossentropy"
    model.compile(optimizer="rmsprop", loss=loss, weighted_metrics=["accuracy"])
    model.save(path)
