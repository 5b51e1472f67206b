"""Fixtures that several test files share."""

from __future__ import annotations

import io
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imdbtune.data.corpus import Corpus
from imdbtune.data.imdb import npz_corpus

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

# A shell starts what it runs in the background without Ctrl-C, and processes inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real imdb.npz and imdb_word_index.json."""
    if not (SHARED_DATA / "imdb.npz").is_file():
        pytest.skip(f"needs the real data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def real_cache(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the real imdb.npz is converted already."""
    cache = tmp_path_factory.mktemp("real_cache")
    npz_corpus(shared_data / "imdb.npz", cache)
    return cache


@pytest.fixture(scope="session")
def real_corpus(shared_data: Path, real_cache: Path) -> Corpus:
    return npz_corpus(shared_data / "imdb.npz", real_cache)


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
