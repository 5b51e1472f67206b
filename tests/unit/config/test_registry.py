"""Registries: built-in entries, and those that other packages add by entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdbtune.config.registry import Registry
from imdbtune.errors import UserError

BUILTIN = {"pi": "math:pi", "broken": "math:no_such_name"}


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str) -> Registry[object]:
    """A registry beside an installed distribution with these entry points."""
    info = folder / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[imdbtune.numbers]\n{entries}\n")
    monkeypatch.syspath_prepend(folder)
    return Registry("number", "imdbtune.numbers", BUILTIN)


def test_builtin_entries_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = install(tmp_path, monkeypatch, "tau = math:tau\ne = math:e")
    assert list(found) == ["pi", "broken", "e", "tau"]
    assert "tau" in found
    assert "phi" not in found
    assert (found["pi"], found["tau"]) == pytest.approx((3.14159, 6.28319), abs=1e-5)


def test_builtin_entry_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert install(tmp_path, monkeypatch, "pi = math:e")["pi"] == pytest.approx(3.14159, abs=1e-5)


def test_names_are_listed_without_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "absent" in list(install(tmp_path, monkeypatch, "absent = no_such_module:x"))


def test_unknown_name() -> None:
    with pytest.raises(
        UserError, match=r"number 'pii' is not known; allowed: pi, broken\. Did you"
    ):
        Registry("number", "imdbtune.numbers", BUILTIN)["pii"]


def test_extension_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = install(tmp_path, monkeypatch, "absent = no_such_module:x\nraises = toy_raises:x")
    (tmp_path / "toy_raises.py").write_text("1 / 0")
    for name, reference in found.added.items():
        message = f"number {name} cannot be loaded from {reference}"
        with pytest.raises(UserError, match=message):
            found[name]


def test_broken_builtin_entry_is_a_bug() -> None:
    with pytest.raises(AttributeError):
        Registry("number", "imdbtune.numbers", BUILTIN)["broken"]
