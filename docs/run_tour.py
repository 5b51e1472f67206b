"""Run the notebook of the documentation, and store its outputs: ``python -m docs.run_tour``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

TOUR = Path(__file__).parent / "tour.ipynb"
MAX_CELL_S = 1800


def main() -> None:
    """Run all cells, and write the notebook with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=MAX_CELL_S, kernel_name="python3", resources=resources
        ).execute()
        for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
            cell.metadata.pop("execution", None)  # times
            cell.outputs = [_kept(output) for output in cell.outputs if _is_of_use(output)]
    nbformat.write(notebook, TOUR)


def _is_of_use(output: Any) -> bool:
    """Return whether readers need an output: not what libraries write on standard error."""
    return not (output.output_type == "stream" and output.name == "stderr")


def _kept(output: Any) -> Any:
    """Return an output without the text that stands for HTML or a picture."""
    data = output.get("data", {})
    if "text/html" in data or "image/png" in data:
        data["text/plain"] = "..."
    return output


if __name__ == "__main__":
    sys.exit(main())
