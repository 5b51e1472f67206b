"""Keras Tuner without Keras: its oracles are plain Python, TensorFlow costs the driver seconds.

Keras Tuner imports Keras, and so TensorFlow, for its model-building half, which is not used here.
The driver of a search only asks oracles; the worker processes have TensorFlow. And it imports
scikit-learn and SciPy for its Bayesian oracle, which gets them once it is wanted.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from imdbtune.absent import absent

NAME = "keras_tuner"
# What Keras Tuner takes from Keras with `import *`.
USED = (
    "Model Sequential applications backend callbacks config layers losses metrics models ops "
    "optimizers random saving utils"
)
FOR_BAYESIAN = ("sklearn", "scipy")


@functools.cache
def keras_tuner() -> ModuleType:
    """The package ``keras_tuner``, of which the oracles and hyperparameters can be used.

    Where Keras has not been imported by then, another copy of the package than ``import
    keras_tuner`` gives, which stands on placeholders instead of Keras.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if NAME in sys.modules or "keras" in sys.modules:
            return importlib.import_module(NAME)
        with _placeholders(), absent(*FOR_BAYESIAN):
            library = importlib.import_module(NAME)
    # All that oracles need of Keras: a hyperparameter as plain values, and back.
    library.src.utils.serialize_keras_object = _serialize
    library.src.utils.deserialize_keras_object = _deserialize
    return library


def equip_bayesian() -> None:
    """Give the Bayesian oracle what it stands on: a second's worth of imports."""
    import scipy.optimize
    import sklearn.gaussian_process

    module: Any = keras_tuner().src.tuners.bayesian
    module.sklearn, module.scipy = sklearn, scipy


def _serialize(thing: Any) -> dict[str, Any]:
    return {"class_name": type(thing).__name__, "config": thing.get_config()}


def _deserialize(plain: Mapping[str, Any], module_objects: Mapping[str, Any]) -> Any:
    return module_objects[plain["class_name"]].from_config(plain["config"])


@contextmanager
def _placeholders() -> Iterator[None]:
    """Have placeholders imported for Keras; afterwards both packages are as if never imported."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if name.partition(".")[0] in ("keras", NAME):
                del sys.modules[name]


class _Finder(MetaPathFinder, Loader):
    """Makes an empty module for each of Keras's."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """One for ``keras`` and all below it."""
        ours = fullname.partition(".")[0] == "keras"
        return ModuleSpec(fullname, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module in which every name is a placeholder."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing."""


class _Module(ModuleType):
    __all__ = USED.split()

    def __getattr__(self, name: str) -> Any:
        return _placeholder(name)

    @staticmethod
    def version() -> str:
        """Keras Tuner asks which Keras it has."""
        return "3."


class _Placeholder(type):
    """A class that gives another whatever is asked: it can be called, decorate, or be a base."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _placeholder("called")

    def __getattr__(cls, name: str) -> Any:
        return _placeholder(name)


def _placeholder(name: str) -> _Placeholder:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Placeholder(name, (), {})
