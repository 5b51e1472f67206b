"""The notebook of the documentation: what it calls exists, and all of it runs."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from tests.support import demo_cache, new_store

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour.ipynb"
CELLS: list[dict[str, Any]] = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_it_tells_the_chapter_and_what_follows() -> None:
    text = "".join(line for cell in CELLS for line in cell["source"])
    for part in (
        "6.21",
        "6.22",
        "6.23",
        "6.24",
        "6.27",
        "api.search",
        "api.confirm",
        "api.explain",
    ):
        assert part in text


@pytest.mark.parametrize("code", CODE)
def test_what_a_cell_calls_exists(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("imdbtune"):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("api."):
            function = getattr(api, ast.unparse(node.func).removeprefix("api."))
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(function).bind(*node.args, **keywords)


def test_it_is_stored_without_traces_of_a_machine() -> None:
    text = TOUR.read_text(encoding="utf-8")
    assert "/home/" not in text
    assert "/tmp/" not in text
    assert all(output["output_type"] != "error" for c in CELLS for output in c.get("outputs", ()))


def test_it_runs(tmp_path: Path, demo: object, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "running notebooks needs nbclient and ipykernel, which the extra dev installs"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    shutil.copyfile(TOUR, tmp_path / "tour.ipynb")
    new_store(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("IMDBTUNE_TOUR", "small")
    monkeypatch.setenv("IMDBTUNE_CACHE", str(demo_cache()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(tmp_path / "tour.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources=resources
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    data = [output.get("data", {}) for output in outputs]
    assert sum("text/html" in each for each in data) >= 6  # tables and coloured words
    assert sum("image/png" in each for each in data) >= 6  # curves and pictures
    assert "322,080 parameters" in "".join(output.get("text", "") for output in outputs)
    assert (tmp_path / "winner" / "README.md").exists()
