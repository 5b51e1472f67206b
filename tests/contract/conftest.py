"""What the tests of several files have built once."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from imdbtune.data.corpus import Corpus


@pytest.fixture(scope="module", autouse=True)
def _unchanging_imports() -> None:
    """Leave what has been imported to itself, see ``pytest_collection_finish``."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def with_linear(demo: Corpus, built_once: Callable[..., Path]) -> Path:
    """The file of the mix of two models and a linear one."""

    def build(folder: Path) -> None:
        from tests.averaged import save_mix

        assert save_mix(demo, folder).name == "model.keras"

    return built_once("with_linear", build) / "model.keras"
