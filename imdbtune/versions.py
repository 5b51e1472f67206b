"""Which versions the processes of a search have: only among equals results are alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

# What results depend on; and what a process that only passes trials on has to have, too.
PASSING_ON = ("python", "imdbtune", "distributed")
TRAINING = (*PASSING_ON, "tensorflow", "keras", "mlflow", "numpy")

Versions = dict[str, str]


def examiner() -> Callable[..., Versions]:
    """A function that says which versions its process has; empty for what it lacks.

    It is made anew, so that it travels as code: a process without this package can run it too.
    """

    def examine(names: Sequence[str]) -> Versions:
        import importlib.metadata
        import platform

        def version(name: str) -> str:
            if name == "python":
                return ".".join(platform.python_version_tuple()[:2])
            try:
                if name == "imdbtune":  # a checkout is not installed
                    return str(importlib.import_module(name).__version__)
                return importlib.metadata.version(name)
            except (ImportError, AttributeError):
                return ""

        return {name: version(name) for name in names}

    return examine


def differences(here: Mapping[str, str], there: Mapping[str, str], names: Sequence[str]) -> str:
    """What differs, in a line; empty where nothing does."""
    told = (
        f"{name} {there.get(name) or 'none'} (here {here.get(name) or 'none'})"
        for name in names
        if there.get(name) != here.get(name)
    )
    return ", ".join(told)
