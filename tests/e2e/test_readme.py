"""The README's facts are right, and its examples and those of docs/ run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, blocks, calls, lines

README = PAGES["README.md"]
SMALL = ["--reviews", "300", "--epochs", "1", "--max-trials", "2", "--workers", "0"]
PREDICT = ["predict", "--model", "winner"]


def test_the_test_command_is_that_of_the_ci() -> None:
    (documented,) = [line for line in lines(["README.md"]) if "/pytest" in line]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace('"', "").splitlines()
    command = documented.replace(".venv", "$venv").replace('"', "")
    assert command in [line.strip() for line in ci]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 180


def test_the_packages_are_those_in_the_folder() -> None:
    listed = re.findall(r"^imdbtune/(\w+)/ ", README, re.MULTILINE)
    packages = {path.parent.name for path in (ROOT / "imdbtune").glob("*/__init__.py")}
    assert len(listed) == len(set(listed))
    assert set(listed) == packages


def test_the_workflows_are_those_in_the_folder() -> None:
    table = PAGES["docs/searching.md"].partition("| workflow |")[2].partition("```")[0]
    first_cells = re.findall(r"^\|([^|]+)\|[^|]+\|$", table, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", "".join(first_cells)))
    assert named == {path.stem for path in (ROOT / "workflows").glob("*.toml")}


def test_the_python_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (first, last) = re.findall(r"Python (\d+\.\d+) to (\d+\.\d+)", README)[0]
    known = {line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line}
    assert {first, last} <= known
    assert project["requires-python"].startswith(f">={first},")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def python(folder: Path, *arguments: str, text: str = "") -> str:
    """Return what a fresh process prints that does not see this one's stores."""
    names = ("MLFLOW_", "IMDBTUNE_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    environment |= {"PYTHONPATH": str(ROOT), "IMDBTUNE_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def imdbtune(folder: Path, *arguments: str, text: str = "") -> str:
    return python(folder, "-m", "imdbtune", *arguments, text=text)


def test_a_search_is_compared_resumed_exported_and_used(folder: Path) -> None:
    """The README's tasks in order, each in its own process, as small as possible."""
    space = ["--rnn", "gru,simple_rnn", "--units", "4,8", "--maxlen", "20"]
    imdbtune(folder, "search", "demo", *space, *SMALL)
    assert imdbtune(folder, "compare", "--csv").count("\n") == 1 + 2
    imdbtune(folder, "search", "demo", "--resume", "--max-trials", "3", "--workers", "0")
    assert imdbtune(folder, "compare", "--csv").count("\n") == 1 + 3
    assert "rnn" in imdbtune(folder, "best")
    imdbtune(folder, "best", "--export", "winner")
    words = ("a wonderful film", "not good at all")
    assert imdbtune(folder, "predict", "--model", "winner", *words).count("\n") == 2
    assert imdbtune(folder, "predict", "--model", "winner", "-", text="so dull\n").count("\n") == 1


PREDICT_ALL = """
import json, sys
from imdbtune.cli.app import app
for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
exec(sys.argv[2])
"""


def test_the_page_on_the_winner_predicts_and_explains(folder: Path) -> None:
    """All its commands on one export, which the test above created."""
    (folder / "reviews.csv").write_text("body,label\nso dull,bad\nso good,good\n")
    page = ["docs/using_the_winner.md"]
    commands = [words for words in calls("imdbtune", page) if words[:3] == PREDICT]
    assert len(commands) == 5
    (code,) = [code for code in blocks("python", page) if "api.explain" in code]
    output = python(folder, "-c", PREDICT_ALL, json.dumps(commands), code, text="so dull\n")
    probabilities = re.findall(r"\b0\.\d{4,}", output)
    assert len(probabilities) >= 2 + 1 + 2 + 1 + 1 + 2
    assert "label,probability,text" in output
    assert "('good', " in output
    assert "<html" in (folder / "words.html").read_text()


def test_the_python_example_searches_and_predicts(folder: Path) -> None:
    (code,) = [code for code in blocks("python", ["README.md"]) if "api.search" in code]
    labels = re.findall(r"^(?:positive|negative) 0\.\d+$", python(folder, "-c", code), re.MULTILINE)
    assert len(labels) == 2


def test_summary_prints_the_numbers_of_parameters(folder: Path) -> None:
    output = imdbtune(folder, "summary")
    assert "322,080" in output
    assert "328,320" in output
