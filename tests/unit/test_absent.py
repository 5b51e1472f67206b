"""Packages are left out while others are imported, and to be had before and afterwards."""

import importlib
import sys

import pytest

from imdbtune.absent import absent


def test_what_is_left_out_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with absent("colorsys"), pytest.raises(ImportError):
        importlib.import_module("colorsys")
    assert importlib.import_module("colorsys").rgb_to_hsv


def test_what_is_there_stays() -> None:
    with absent("sys", "pytest"):
        assert importlib.import_module("pytest") is pytest


def test_it_is_to_be_had_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ZeroDivisionError), absent("colorsys"):
        raise ZeroDivisionError
    assert importlib.import_module("colorsys")
