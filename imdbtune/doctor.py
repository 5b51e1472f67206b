"""Whether this machine is fit for imdbtune: one check a function, each with what to do."""

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

from imdbtune.data.imdb import KERAS_FILES, imdb_folder
from imdbtune.errors import UserError, quote_path
from imdbtune.files import read_small_text
from imdbtune.tracking.connection import connect_existing, hide_secrets, resolve_uri

OK, WARNING, PROBLEM = "ok", "warning", "problem"
GIB = 2**30
LITTLE_DISK, LITTLE_MEMORY = 2 * GIB, 2 * GIB
MOST_MLPROJECT = 2**20  # bytes; ours has a few thousand
PATIENCE_S = 60
LOCK_S = 5.0
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Check:
    """What one check has found."""

    name: str
    state: str  # ok, warning or problem
    found: str
    remedy: str = ""  # what to do, unless it is ok


def examine(uri: str, cache: Path) -> Iterator[Check]:
    """All checks, one after the other; nothing is left behind."""
    yield python()
    yield packages()
    yield cores()
    yield memory()
    yield tensorflow()
    places = {"working directory": Path.cwd(), "cache": cache}
    for name, folder in {**places, "temporary folder": Path(tempfile.gettempdir())}.items():
        yield disk(name, folder)
    yield store(uri)
    yield reviews(cache)
    yield program("git", "runs are tagged with the commit")
    yield environments()
    yield project(Path.cwd())


def python() -> Check:
    """The interpreter, against what the project runs on."""
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", OK, version)
    return Check("Python", PROBLEM, version, "use Python 3.11 to 3.13.")


def packages(requirements: Sequence[str] | None = None) -> Check:
    """The packages that imdbtune depends on: there, not too old, not too new, tested together."""
    try:
        asked = requirements or importlib.metadata.requires("imdbtune") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", PROBLEM, "imdbtune is not installed", _INSTALL)
    wrong, others, count = [], [], 0
    tested = _tested()
    for requirement in map(Requirement, asked):
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
            others.append(f"{requirement.name} {version} ({tested[_canonical(requirement.name)]})")
    if wrong:
        return Check("packages", PROBLEM, "; ".join(wrong), _INSTALL)
    if others:
        found = f"other versions than those tested together: {', '.join(others)}"
        return Check("packages", WARNING, found, _INSTALL)
    return Check("packages", OK, f"{count} that are needed, in versions that fit")


_INSTALL = "install anew: pip install -c constraints.txt -e ."


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _tested() -> dict[str, str]:
    """Versions that were tested together, where constraints.txt lies beside the package."""
    path = ROOT / "constraints.txt"
    lines = path.read_text(encoding="utf-8").split() if path.is_file() else []
    pairs = (line.split("==") for line in lines if line.count("==") == 1)
    return {_canonical(name): version for name, version in pairs}


def cores() -> Check:
    """The processors that this process may use, and a limit that a container sets on its time."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(Path("/sys/fs/cgroup/cpu.max"))
    found = f"{usable} usable of {os.cpu_count()}"
    if quota is not None and quota < (usable or 1):
        advice = f"give --workers {max(1, int(quota))}; more would wait for each other."
        return Check("cores", WARNING, f"{found}, but time for {quota:g}", advice)
    return Check("cores", OK, found)


def _quota(path: Path) -> float | None:
    """How many cores' time a cgroup may use; ``None``: as much as there is."""
    try:
        quota, period = path.read_text(encoding="ascii").split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def memory() -> Check:
    """Free memory: a worker takes about one GiB."""
    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    with suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    free = min(free, total)
    found = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if free < LITTLE_MEMORY:
        return Check("memory", WARNING, found, "end other programs, or give --workers 1.")
    return Check("memory", OK, found)


def tensorflow(patience_s: float = PATIENCE_S) -> Check:
    """Whether TensorFlow can be imported, and its cards; in a process of its own."""
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
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"not imported within {patience_s:g} s"
        return Check("TensorFlow", WARNING, said, "see what else the machine is doing.")
    answer = re.search(r"found (\S+) (\d+)", done.stdout)
    if answer is None:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:200]
        return Check("TensorFlow", PROBLEM, f"cannot be imported: {reason}", _INSTALL)
    cards = f"{answer[2]} GPUs" if answer[2] != "0" else "no GPU, which is no need"
    return Check("TensorFlow", OK, f"{answer[1]}, {cards}")


def disk(name: str, folder: Path) -> Check:
    """Whether a folder, or the one in which it will be made, can be written and has room."""
    above = (folder.absolute(), *folder.absolute().parents)
    try:
        there = next(path for path in above if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"imdbtune")
        free = shutil.disk_usage(there).free
    except OSError as error:
        remedy = "mend the rights, or name another folder."
        found = f"{quote_path(folder)} cannot be written: {error.strerror}"
        return Check(name, PROBLEM, found, remedy)
    found = f"{folder}: {free / GIB:.1f} GiB free"
    if free < LITTLE_DISK:
        return Check(name, WARNING, found, "make room: a search may need 2 GiB.")
    return Check(name, OK, found)


def store(uri: str) -> Check:
    """Whether the tracking store answers, and can be written."""
    try:
        resolved = resolve_uri(uri)
        path = Path(resolved.removeprefix("sqlite:///"))
        if resolved.startswith("sqlite:") and not path.exists():
            writable = os.access(path.parent, os.W_OK)
            state, remedy = (OK, "") if writable else (PROBLEM, "name another --tracking-uri.")
            return Check("tracking store", state, f"{resolved} will be made by a search", remedy)
        _probe(resolved)
    except UserError as error:
        return Check("tracking store", PROBLEM, str(error), "start it, or name another one.")
    except Exception as error:  # MLflow's, and those of the drivers below it
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        found = f"{hide_secrets(resolved)} cannot be written: {hide_secrets(reason)}"
        return Check("tracking store", PROBLEM, found, "mend the rights, or name another one.")
    return Check("tracking store", OK, f"{hide_secrets(resolved)} can be read and written")


def _probe(resolved: str) -> None:
    """Write something and take it away for good; of an SQLite file only the lock is taken.

    What can be made on a server and goes without a trace is a tag of an experiment: runs and
    experiments stay in its bin.
    """
    if resolved.startswith("sqlite:"):
        import sqlite3

        connect_existing(resolved)
        with closing(
            sqlite3.connect(resolved.removeprefix("sqlite:///"), timeout=LOCK_S)
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
    """Whether the IMDB reviews are in the cache, or their server can be reached."""
    folder = imdb_folder(cache)
    there = False
    with suppress(OSError):  # the name is too long
        there = folder.is_dir()
    if there:
        from imdbtune.data.corpus import read_corpus

        try:
            rows = len(read_corpus(folder).train)
        except UserError as error:
            return Check("reviews", PROBLEM, str(error), f"delete {folder}.")
        return Check("reviews", OK, f"IMDB is in the cache: {rows:,} to train on")
    host = str(urlsplit(KERAS_FILES[0].url).hostname)
    try:
        with socket.create_connection((host, 443), timeout=5):
            return Check("reviews", OK, "IMDB is not in the cache; it can be downloaded")
    except OSError:
        remedy = "give --data PATH/imdb.npz; without it, the demo reviews are taken."
        return Check("reviews", WARNING, f"IMDB is not in the cache, {host} not reached", remedy)


def program(name: str, use: str, which: Callable[[str], str | None] = shutil.which) -> Check:
    """Whether a program is installed that is of use."""
    path = which(name)
    if path:
        return Check(name, OK, path)
    return Check(name, WARNING, "not found", f"install it, so that {use}.")


def environments(which: Callable[[str], str | None] = shutil.which) -> Check:
    """What `mlflow run` can make environments with; without, it has to be told to use this one."""
    found = [name for name in ("conda", "uv") if which(name)]
    if "conda" in found:
        return Check("conda and uv", OK, f"{' and '.join(found)} found")
    said = "uv found, conda not" if found else "neither found"
    return Check("conda and uv", OK, f"{said}: call mlflow run with --env-manager local")


def project(folder: Path) -> Check:
    """Whether `mlflow run .` works here."""
    path = folder / "MLproject"
    if not path.is_file():
        return Check("MLproject", OK, "not in this folder: mlflow run needs that of the project")
    try:
        points = yaml.safe_load(read_small_text(path, most=MOST_MLPROJECT))["entry_points"]
        return Check("MLproject", OK, f"entry points {', '.join(points)}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        return Check("MLproject", PROBLEM, f"cannot be read: {error!r}"[:200], "restore the file.")
