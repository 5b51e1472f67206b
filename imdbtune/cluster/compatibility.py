"""Compare the package versions of the processes of a search: results depend on them."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence

from imdbtune import __version__

# A scheduler only passes trials on; the results depend on the packages of the workers.
ON_SCHEDULER = ("python", "imdbtune", "distributed")
ON_WORKERS = (*ON_SCHEDULER, "tensorflow", "keras", "mlflow", "numpy")
PACKAGES = ON_WORKERS[2:]  # those whose versions Dask can report

Versions = dict[str, str]
Reply = Mapping[str, Mapping[str, str | None]]  # of distributed.versions.get_versions


def local_versions() -> Versions:
    """Return the versions in this process."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": _minor(platform.python_version()), "imdbtune": __version__, **packages}


def remote_versions(reply: Reply) -> Versions:
    """Return the versions in another process, from what ``distributed.versions`` reports there.

    The version of imdbtune is missing there: it takes :func:`version_probe`, which only runs in
    the same version of Python. So these versions are compared first.
    """
    packages = reply["packages"]
    versions = {name: packages.get(name) or "" for name in PACKAGES}
    return {"python": _minor(packages["python"] or ""), **versions}


def version_probe() -> Callable[[], str]:
    """Return a function that returns the version of imdbtune in its process; empty if none.

    It is a closure so that it is pickled by value: a process without the package can run it too.
    """

    def probe() -> str:
        try:
            import imdbtune
        except ImportError:
            return ""
        return str(imdbtune.__version__)

    return probe


def differences(local: Mapping[str, str], remote: Mapping[str, str], names: Sequence[str]) -> str:
    """Return the versions of ``names`` that differ, in one line; empty if none does."""
    differing = (
        f"{name} {remote[name] or 'none'} (here {local[name]})"
        for name in names
        if name in remote and remote[name] != local[name]
    )
    return ", ".join(differing)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
