"""Sphinx configuration: ``sphinx-build -W -b html docs build/docs``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from imdbtune import __version__

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

project = "imdbtune"
author = "the imdbtune maintainers"
version = release = __version__

extensions = [
    "myst_nb",  # MyST, and notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"imdbtune {__version__}"
html_copy_source = False

# Notebooks are shown with the outputs that are stored in them: python -m docs.run_tour.
nb_execution_mode = "off"
nb_merge_streams = True  # a line of progress for each trial is one output

# The anchors that hosting sites give to headings, so that links work there and here.
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

# References to functions and modules in docstrings must resolve. No inventory of another project is
# fetched, so types, most of which stand in annotations, are the exception, and so are constants,
# which have no entries of their own.
nitpicky = True
nitpick_ignore_regex = [(f"py:{kind}", ".*") for kind in ("class", "exc", "obj", "data")]
suppress_warnings = ["ref.python"]  # two classes of one name, in annotations

# A page of an earlier build would fail once its module is gone.
shutil.rmtree(HERE / "api" / "generated", ignore_errors=True)

# Files outside this folder that are pages of the site: here lie only links to them.
PROJECT_FILES = {
    "index": "README.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/changelog": "CHANGELOG.md",
    "project/security": "SECURITY.md",
    "project/benchmarks": "benchmarks/README.md",
    "project/deployment": "deploy/README.md",
}
PROJECT_PAGES = {file: page for page, file in PROJECT_FILES.items()}


def read_page(app: Any, name: str, source: list[str]) -> None:
    """Put the project's own files into their pages, and make links between files work."""
    file = HERE / f"{name}.md"
    if not file.exists():
        return  # generated from docstrings
    if name.startswith("project/"):
        file = ROOT / PROJECT_FILES[name]
        app.env.note_dependency(str(file))

    def to_page(link: re.Match[str]) -> str:
        target = (file.parent / link[1]).resolve().relative_to(ROOT).as_posix()
        page = PROJECT_PAGES.get(target)
        return f"](/{page}.md" if page else f"](/{target.removeprefix('docs/')}"

    links = r"\]\((?!https?:)([^)#\s]+\.(?:md|ipynb))"
    source[0] = re.sub(links, to_page, file.read_text(encoding="utf-8"))


def setup(app: Any) -> None:
    """Register :func:`read_page` with Sphinx."""
    app.connect("source-read", read_page)
