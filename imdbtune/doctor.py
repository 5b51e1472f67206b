"""Check whether imdbtune can work on this machine; each function is one check."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import yaml
from packaging.requirements import Requirement

from imdbtune.config.extensions import FORMATS, registries
from imdbtune.data.imdb import KERAS_FILES, imdb_folder
from imdbtune.errors import UserError, first_line, last_line, quote_path
from imdbtune.files import read_small_text
from imdbtune.tracking.connection import connect_existing, hide_secrets, resolve_uri

OK, WARNING, PROBLEM = "ok", "warning", "problem"
GIB = 2**30
MIN_DISK, MIN_MEMORY = 2 * GIB, 2 * GIB  # free; less gives a warning
MAX_MLPROJECT_BYTES = 2**20  # ours has a few thousand
IMPORT_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 5.0
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    state: str  # ok, warning or problem
    found: str
    remedy: str = ""  # what to do; empty if ok


def run_checks(uri: str, cache: Path) -> Iterator[Check]:
    """Run all checks, one after the other; none leaves a trace."""
    yield python()
    yield packages()
    yield cores()
    yield memory()
    yield tensorflow()
    yield formats()
    yield extensions()
    folders = {"working directory": Path.cwd(), "cache": cache}
    folders["temporary folder"] = Path(tempfile.gettempdir())
    for name, folder in folders.items():
        yield disk(name, folder)
    yield store(uri)
    yield reviews(cache)
    yield program("git", "runs are tagged with the commit")
    yield environments()
    yield project(Path.cwd())


def python() -> Check:
    """Check the version of Python."""
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", OK, version)
    return Check("Python", PROBLEM, version, "use Python 3.11 to 3.13.")


def packages(requirements: Sequence[str] | None = None) -> Check:
    """Check that required packages are installed, in allowed and tested versions."""
    try:
        required = requirements or importlib.metadata.requires("imdbtune") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", PROBLEM, "imdbtune is not installed", _INSTALL)
    wrong, untested, count = [], [], 0
    tested = _read_tested_versions()
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
        elif tested.get(_canonical(requirement.name), version) != version:
            untested.append(
                f"{requirement.name} {version} ({tested[_canonical(requirement.name)]})"
            )
    if wrong:
        return Check("packages", PROBLEM, "; ".join(wrong), _INSTALL)
    if untested:
        found = f"versions other than the tested ones (in brackets): {', '.join(untested)}"
        return Check("packages", WARNING, found, _INSTALL)
    return Check("packages", OK, f"all {count} required packages in tested versions")


_INSTALL = "install again: pip install -c constraints.txt -e ."


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _read_tested_versions() -> dict[str, str]:
    """Return the tested versions in constraints.txt, if that is next to the package."""
    path = ROOT / "constraints.txt"
    lines = path.read_text(encoding="utf-8").split() if path.is_file() else []
    pairs = (line.split("==") for line in lines if line.count("==") == 1)
    return {_canonical(name): version for name, version in pairs}


def cores() -> Check:
    """Check the usable processor cores, and the CPU quota of a container."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(Path("/sys/fs/cgroup/cpu.max"))
    found = f"{usable} usable of {os.cpu_count()}"
    if quota is not None and quota < (usable or 1):
        advice = f"give --workers {max(1, int(quota))}; more would compete for CPU time."
        return Check("cores", WARNING, f"{found}, but a CPU quota of {quota:g}", advice)
    return Check("cores", OK, found)


def _quota(path: Path) -> float | None:
    """Return the CPU quota of a cgroup in cores; ``None``: no quota."""
    try:
        quota, period = path.read_text(encoding="ascii").split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def memory() -> Check:
    """Check the free memory; a worker takes about 1 GiB."""
    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    with suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    free = min(free, total)
    found = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if free < MIN_MEMORY:
        return Check("memory", WARNING, found, "close other programs, or give --workers 1.")
    return Check("memory", OK, found)


def tensorflow(timeout_s: float = IMPORT_TIMEOUT_S) -> Check:
    """Check in a separate process that TensorFlow can be imported; count its GPUs."""
    code = (
        "import tensorflow as tf; print('found', tf.__version__, "
        "len(tf.config.list_physical_devices('GPU')))"
    )
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=quiet,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"not imported within {timeout_s:g} s"
        return Check("TensorFlow", WARNING, found, "check the load of the machine and try again.")
    answer = re.search(r"found (\S+) (\d+)", done.stdout)
    if answer is None:
        reason = last_line(done.stderr) or "no error message"
        return Check("TensorFlow", PROBLEM, f"cannot be imported: {reason}", _INSTALL)
    cards = f"{answer[2]} GPUs" if answer[2] != "0" else "no GPU (none is needed)"
    return Check("TensorFlow", OK, f"{answer[1]}, {cards}")


def formats() -> Check:
    """Check which export formats have their packages, which are optional."""
    usable, missing = [], []
    for name in FORMATS:
        try:
            FORMATS[name].check_installed()
        except UserError:
            missing.append(name)
        else:
            usable.append(name)
    without = f"; not installed: {', '.join(missing)}" if missing else ""
    return Check("export formats", OK, ", ".join(usable) + without)


def extensions() -> Check:
    """Check that what other packages add can be loaded."""
    loaded, broken = [], []
    for registry in registries():
        for name in registry.added:
            try:
                registry[name]
            except UserError:
                broken.append(f"{registry.kind} {name}")
            else:
                loaded.append(f"{registry.kind} {name}")
    if broken:
        remedy = "correct or uninstall the packages that add them."
        return Check("extensions", PROBLEM, f"cannot be loaded: {', '.join(broken)}", remedy)
    return Check("extensions", OK, ", ".join(loaded) or "none from other packages")


def disk(name: str, folder: Path) -> Check:
    """Check that a folder, or the one in which it will be created, is writable and has space."""
    above = (folder.absolute(), *folder.absolute().parents)
    try:
        existing = next(path for path in above if path.exists())
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"imdbtune")
        free = shutil.disk_usage(existing).free
    except OSError as error:
        remedy = "change its permissions, or use another folder."
        found = f"{quote_path(folder)} cannot be written: {error.strerror}"
        return Check(name, PROBLEM, found, remedy)
    found = f"{folder}: {free / GIB:.1f} GiB free"
    if free < MIN_DISK:
        return Check(name, WARNING, found, "free some space; a search may need 2 GiB.")
    return Check(name, OK, found)


def store(uri: str) -> Check:
    """Check that the tracking store can be read and written."""
    try:
        resolved = resolve_uri(uri)
        path = Path(resolved.removeprefix("sqlite:///"))
        if resolved.startswith("sqlite:") and not path.exists():
            writable = os.access(path.parent, os.W_OK)
            state, remedy = (OK, "") if writable else (PROBLEM, "give another --tracking-uri.")
            return Check("tracking store", state, f"{resolved} will be created by a search", remedy)
        _probe(resolved)
    except UserError as error:
        return Check(
            "tracking store", PROBLEM, str(error), "start it, or give another --tracking-uri."
        )
    except Exception as error:  # of MLflow or of a database driver
        reason = first_line(error)
        found = f"{hide_secrets(resolved)} cannot be written: {hide_secrets(reason)}"
        remedy = "change its permissions, or give another --tracking-uri."
        return Check("tracking store", PROBLEM, found, remedy)
    return Check("tracking store", OK, f"{hide_secrets(resolved)} can be read and written")


def _probe(resolved: str) -> None:
    """Write to a store and undo it; of an SQLite file, only take the lock.

    On a server, set and delete a tag of an experiment: deleted runs and experiments would remain in
    MLflow's bin.
    """
    if resolved.startswith("sqlite:"):
        import sqlite3

        connect_existing(resolved)
        with closing(
            sqlite3.connect(resolved.removeprefix("sqlite:///"), timeout=LOCK_TIMEOUT_S)
        ) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
        return
    client = connect_existing(resolved)
    experiments = client.search_experiments(max_results=1, filter_string="name = 'imdbtune'")
    experiments = experiments or client.search_experiments(max_results=1)
    if not experiments:
        return
    key = f"imdbtune.doctor.{uuid.uuid4().hex[:8]}"
    client.set_experiment_tag(experiments[0].experiment_id, key, "can be written")
    client.delete_experiment_tag(experiments[0].experiment_id, key)


def reviews(cache: Path) -> Check:
    """Check all corpora in the cache, or that the server of the IMDB reviews can be reached."""
    imdb, rows = imdb_folder(cache), 0
    with suppress(OSError):  # the name may be too long
        found = {path.parent for path in cache.glob("*/[!.]*/meta.json")}
        for folder in sorted(found | ({imdb} if imdb.is_dir() else set())):
            from imdbtune.data.corpus import read_corpus

            try:
                corpus = read_corpus(folder, verify=True)
            except UserError as error:
                return Check("reviews", PROBLEM, str(error), f"delete {folder}.")
            rows = len(corpus.train) if folder == imdb else rows
    if rows:
        return Check("reviews", OK, f"IMDB is in the cache, with {rows:,} training reviews")
    host = str(urlsplit(KERAS_FILES[0].url).hostname)
    try:
        with socket.create_connection((host, 443), timeout=5):
            return Check("reviews", OK, "IMDB is not in the cache; it can be downloaded")
    except OSError:
        remedy = "give --data PATH/imdb.npz; otherwise the demo reviews are used."
        return Check(
            "reviews", WARNING, f"IMDB is not in the cache, and {host} cannot be reached", remedy
        )


def program(name: str, use: str, find: Callable[[str], str | None] = shutil.which) -> Check:
    """Check that an optional program is installed."""
    path = find(name)
    if path:
        return Check(name, OK, path)
    return Check(name, WARNING, "not found", f"install it so that {use}.")


def environments(find: Callable[[str], str | None] = shutil.which) -> Check:
    """Check for conda and uv, with which `mlflow run` creates environments."""
    found = [name for name in ("conda", "uv") if find(name)]
    if "conda" in found:
        return Check("conda and uv", OK, f"{' and '.join(found)} found")
    missing = "uv found, conda not" if found else "neither found"
    return Check("conda and uv", OK, f"{missing}: run mlflow run with --env-manager local")


def project(folder: Path) -> Check:
    """Check that `mlflow run .` works in a folder."""
    path = folder / "MLproject"
    if not path.is_file():
        return Check(
            "MLproject", OK, "not in this folder; mlflow run works in the folder of the project"
        )
    try:
        points = yaml.safe_load(read_small_text(path, max_bytes=MAX_MLPROJECT_BYTES))[
            "entry_points"
        ]
        return Check("MLproject", OK, f"entry points {', '.join(points)}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        return Check("MLproject", PROBLEM, f"cannot be read: {error!r}"[:200], "restore the file.")
