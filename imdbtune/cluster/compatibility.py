"""Which versions the processes of a search have: only among equals results are alike."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imdbtune import __version__

# What results depend on; and what a process that only passes trials on has to have, too.
PASSING_ON = ("python", "imdbtune", "distributed")
TRAINING = (*PASSING_ON, "tensorflow", "keras", "mlflow", "numpy")
PACKAGES = TRAINING[2:]

Versions = dict[str, str]


def local_versions() -> Versions:
    """Those of this process."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": _minor(platform.python_version()), "imdbtune": __version__, **packages}


def remote_versions(told: Mapping[str, Any]) -> Versions:
    """What another process has answered to Dask's question; imdbtune is to be asked by itself.

    Dask's own question comes first: code of ours can be run by the same Python only.
    """
    packages = told["packages"]
    found = {name: packages.get(name) or "" for name in PACKAGES}
    return {"python": _minor(packages["python"]), **found}


def version_probe() -> Callable[[], str]:
    """A function that says which imdbtune its process has; empty if none.

    It is made anew, so that it travels as code: a process without the package can run it too.
    """

    def ask() -> str:
        try:
            import imdbtune
        except ImportError:
            return ""
        return str(imdbtune.__version__)

    return ask


def differences(here: Mapping[str, str], there: Mapping[str, str], names: Sequence[str]) -> str:
    """What differs, in a line; empty where nothing does."""
    told = (
        f"{name} {there[name] or 'none'} (here {here[name]})"
        for name in names
        if name in there and there[name] != here[name]
    )
    return ", ".join(told)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
