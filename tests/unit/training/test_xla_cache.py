"""The folder of compiled code is the user's alone, or it is not used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imdbtune.training import xla_cache
from imdbtune.training.hardware import processor_features
from imdbtune.training.xla_cache import cache_environment


@pytest.fixture(autouse=True)
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", "")


def folder_of(environment: dict[str, str]) -> Path:
    assert environment["TF_XLA_FLAGS"] == "--tf_xla_persistent_cache_directory=ram://imdbtune-xla"
    return Path(environment[xla_cache.FOLDER])


def test_the_folder_is_private(tmp_path: Path) -> None:
    folder = folder_of(cache_environment(tmp_path))
    assert folder.parent == tmp_path / "xla"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]
    assert folder_of(cache_environment(tmp_path)) == folder


def test_permissions_of_other_users_are_removed(tmp_path: Path) -> None:
    (tmp_path / "xla").mkdir()
    (tmp_path / "xla").chmod(0o777)
    folder = folder_of(cache_environment(tmp_path))
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_other_processors_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_of(cache_environment(tmp_path))
    monkeypatch.setattr(xla_cache, "processor_features", lambda: "x86_64 something else")
    assert folder_of(cache_environment(tmp_path)) != here


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "xla").symlink_to(elsewhere)
    assert cache_environment(tmp_path) == {}


def test_a_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert cache_environment(tmp_path) == {}


def test_no_flags_are_set_without_a_usable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    assert cache_environment(tmp_path / "file") == {}


def test_another_cache_replaces_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache_environment(tmp_path / "first")
    monkeypatch.setenv("TF_XLA_FLAGS", first["TF_XLA_FLAGS"])
    assert folder_of(cache_environment(tmp_path / "a b")) != folder_of(first)


def test_flags_of_the_user_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=1")
    assert cache_environment(tmp_path) == {}


def test_the_processor_has_a_name() -> None:
    assert processor_features().strip()
