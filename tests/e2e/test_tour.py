"""The notebook of the documentation: what it calls exists, and all of it runs."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from tests.forked import Surroundings, environment_of, run_forked
from tests.support import demo_cache, new_store, scripts_here

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


def run_cells(around: Surroundings, shown: Path) -> None:
    """In a forked process: run all cells, and write down what they print and which data they show.

    IPython runs them as a kernel of Jupyter does; see test_notebook for a real one.
    """
    from IPython.core.displayhook import CapturingDisplayHook
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    around.enter()
    scripts_here(pytest.MonkeyPatch())
    shell = InteractiveShell.instance()
    results: list[dict[str, Any]] = []
    shell.display_trap.hook = CapturingDisplayHook(shell, results)
    with capture_output() as captured:
        for code in CODE:
            shell.run_cell(code).raise_error()
    kinds = [[*each["data"]] for each in results] + [[*each.data] for each in captured.outputs]
    shown.write_text(json.dumps({"printed": captured.stdout, "kinds": kinds}), "utf-8")


def test_it_runs(tmp_path: Path, demo: object) -> None:
    pytest.importorskip("IPython", reason="cells need IPython, which the extra dev installs")
    new_store(tmp_path)
    shown, errors = tmp_path / "shown.json", tmp_path / "errors"
    known = environment_of(IMDBTUNE_TOUR="small", IMDBTUNE_CACHE=str(demo_cache()))
    status = run_forked(run_cells, Surroundings(tmp_path, known, errors=errors), shown)
    assert status == 0, errors.read_text("utf-8")[-2000:]
    told = json.loads(shown.read_text("utf-8"))
    assert sum("text/html" in kinds for kinds in told["kinds"]) >= 6  # tables and coloured words
    assert sum("image/png" in kinds for kinds in told["kinds"]) >= 6  # curves and pictures
    assert "322,080 parameters" in told["printed"]
    assert (tmp_path / "winner" / "README.md").exists()
