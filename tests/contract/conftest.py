"""What the tests of several files have built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imdbtune.data.corpus import Corpus
from tests.garbage import spare_imports


@pytest.fixture(scope="module", autouse=True)
def _unchanging_imports() -> None:
    """Spare what the tests of the module before have imported."""
    spare_imports()


@pytest.fixture(scope="session")
def with_linear(demo: Corpus, built_once: Callable[..., Path]) -> Path:
    """The file of the mix of two models and a linear one."""

    def build(folder: Path) -> None:
        from tests.averaged import save_mix

        assert save_mix(demo, folder).name == "model.keras"

    return built_once("with_linear", build) / "model.keras"
