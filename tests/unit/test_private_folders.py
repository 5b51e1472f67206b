"""Whatever the umask, other users get into no folder that is created here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imdbtune.data.cache import locked
from imdbtune.data.imdb import npz_corpus
from imdbtune.files import make_private_folder
from imdbtune.search.workspace import create_workspace, open_workspace
from imdbtune.training.xla_cache import cache_environment
from tests.support import tiny_corpus


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_folders(folder: Path) -> list[Path]:
    """Return the folders that other users may enter, not those inside private ones."""
    found = []
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and path.stat().st_mode & 0o077:
            found += [path, *open_folders(path)]
    return found


def test_missing_folders_are_created_private_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    make_private_folder(tmp_path / "there" / "a" / "b")
    assert open_folders(tmp_path) == [tmp_path / "there"]
    assert (tmp_path / "there" / "a" / "b").is_dir()
    make_private_folder(tmp_path / "there" / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_private_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_private_folder(tmp_path / "file" / "a")


def test_workspaces_are_private(tmp_path: Path) -> None:
    base = tmp_path / ".imdbtune"
    with create_workspace(base, "one", "sqlite:///mlflow.db") as (workspace, _):
        workspace.renamed("abc")
    with open_workspace(base, "def", "two", "sqlite:///mlflow.db", "search"):
        assert {path.name for path in base.iterdir()} == {"abc", "def"}
    assert open_folders(tmp_path) == []
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in (base, *base.iterdir()))


def test_the_cache_is_private(tmp_path: Path) -> None:
    corpus = npz_corpus(tiny_corpus(tmp_path), tmp_path / "new" / "cache")
    cache_environment(tmp_path / "other" / "cache")
    with locked(tmp_path / "third" / "file.lock"):
        pass
    assert open_folders(tmp_path) == []
    assert corpus.folder.stat().st_mode & 0o777 == 0o700
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert not [path for path in folders if path.stat().st_mode & 0o022]
