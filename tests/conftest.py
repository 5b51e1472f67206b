"""Fixtures and options that several test files share."""

from __future__ import annotations

import difflib
import gc
import io
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

from imdbtune.data.corpus import Corpus
from imdbtune.data.demo import demo_corpus
from imdbtune.data.imdb import npz_corpus
from tests.garbage import spare_imports
from tests.support import COMMON

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

# A shell starts what it runs in the background without Ctrl-C, nohup without the signal of a closed
# terminal, and processes inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples in each run.
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="Write the golden files anew from the output."
    )


# Files whose tests take long and run in one group or a few start first, the longest of all at the
# head: what comes last are short tests, so that all processes end at the same time.
LONG = (
    *("test_remote_cluster", "test_own_models", "test_tour", "test_export_formats"),
    *("test_server_outage", "test_network_cut", "test_postgresql", "test_start_failure"),
    *("test_ngrams", "test_checkpoints", "test_classes", "test_resume", "test_crash_recovery"),
    *("test_reconcile", "test_mlflow_run", "test_readme", "test_resume_training"),
    *("test_real_training", "test_lost_workers", "test_executors", "test_forkserver"),
    *("test_real_data", "test_cli_errors", "test_ensemble", "test_deploy", "test_mlflow_server"),
    *("test_model_registry", "test_terminal", "test_page", "test_estimate", "test_driver"),
    *("test_runs", "test_baseline_job", "test_reader", "test_writer", "test_failed_trials"),
    *("test_trainer", "test_fused_rnn", "test_demo_difficulty"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests, and let one process run those of a file in ``tests/unit``.

    They share their fixtures, and what they import.
    """
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    for item in items:
        if "unit" in item.path.parts and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


LONGEST_ID = 60


def pytest_make_parametrize_id(val: object) -> str | None:
    """Cut long values short: the processes of a session send each other the names of all tests."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_ID:
        return f"{val[:LONGEST_ID]!r}..."
    return None


def pytest_collection_finish() -> None:
    spare_imports()


def pytest_sessionfinish() -> None:
    """pytest collects garbage five times as it ends, which takes seconds and finds nothing."""
    gc.freeze()


Build = Callable[[Path], None]


@pytest.fixture(scope="session", autouse=True)
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that all test processes of a session have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ[COMMON] = str(folder)
    return folder


@pytest.fixture(scope="session")
def built_once(common_folder: Path) -> Callable[[str, Build], Path]:
    """Returns a folder that the first of all test processes to ask for it has filled.

    The tests of all processes share it, and leave it as it is.
    """

    def once(name: str, build: Build) -> Path:
        folder, built = common_folder / name, common_folder / f"{name}.built"
        with FileLock(common_folder / f"{name}.lock"):
            if not built.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                build(folder)
                built.touch()
        return folder

    return once


@pytest.fixture
def golden(request: pytest.FixtureRequest, common_folder: Path) -> Callable[[Path, str, str], None]:
    """Compares a text with a section of a golden file; with ``--update-golden`` writes it there."""

    def compare(file: Path, section: str, text: str) -> None:
        with FileLock(common_folder / f"{file.name}.lock"):
            whole = file.read_text("utf-8") if file.exists() else ""
            _, *parts = re.split(r"^== (.+) ==\n", whole, flags=re.MULTILINE)
            known = dict(zip(parts[::2], parts[1::2], strict=True))
            if request.config.getoption("update_golden"):
                known[section] = text
                written = [f"== {name} ==\n{known[name]}" for name in sorted(known)]
                file.write_text("".join(written), "utf-8")
        lines = [part.splitlines(keepends=True) for part in (known.get(section, ""), text)]
        changes = "".join(difflib.unified_diff(*lines, file.name, "now", n=1))
        assert not changes, f"{changes}\nIf that is meant: pytest --update-golden"

    return compare


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real imdb.npz and imdb_word_index.json."""
    if not (SHARED_DATA / "imdb.npz").is_file():
        pytest.skip(f"needs the real data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def real_cache(shared_data: Path, built_once: Callable[[str, Build], Path]) -> Path:
    """A cache folder in which the real imdb.npz is converted already."""

    def convert(cache: Path) -> None:
        npz_corpus(shared_data / "imdb.npz", cache)

    return built_once("real_cache", convert)


@pytest.fixture(scope="session")
def real_corpus(shared_data: Path, real_cache: Path) -> Corpus:
    return npz_corpus(shared_data / "imdb.npz", real_cache)


@pytest.fixture(scope="session")
def demo(built_once: Callable[[str, Build], Path]) -> Corpus:
    """The whole demo corpus."""

    def build(cache: Path) -> None:
        demo_corpus(cache)

    return demo_corpus(built_once("demo_cache", build))


@pytest.fixture(scope="session")
def small_npz() -> Callable[..., bytes]:
    """Makes the bytes of a small imdb.npz; members can be replaced by arrays, bytes or None."""

    def make(**replaced: np.ndarray | bytes | None) -> bytes:
        reviews = np.array([[1, 2, 3], [4, 700], [5]], object)
        labels = np.array([1, 0, 1])
        members = {"x_train": reviews, "y_train": labels, "x_test": reviews, "y_test": labels}
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, member in (members | replaced).items():
                if isinstance(member, bytes):
                    archive.writestr(f"{name}.npy", member)
                elif member is not None:
                    with archive.open(f"{name}.npy", "w") as out:
                        np.lib.format.write_array(out, member)
        return file.getvalue()

    return make
