"""The README's facts are right, and its examples and those of docs/ run."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imdbtune.cli.app import app
from imdbtune.config.schema import SearchConfig, load_config
from imdbtune.data.corpus import Corpus
from tests.pages import PAGES, ROOT, blocks, calls, lines
from tests.support import draw_nothing, isolate, untried_exports

README = PAGES["README.md"]
pytestmark = pytest.mark.xdist_group("readme")  # later tests use what earlier ones created
SMALL = ["--reviews", "300", "--epochs", "1", "--max-trials", "1", "--workers", "0"]
NO_REPORT = ["--set", "tracking.report=false"]
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


@pytest.fixture
def here(folder: Path, demo: Corpus, common_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, as it was left; the demo reviews are in the cache."""
    isolate(monkeypatch, folder)
    monkeypatch.setenv("IMDBTUNE_CACHE", str(common_folder / "demo_cache"))
    untried_exports(monkeypatch)  # tests of the formats try them in new processes
    draw_nothing(monkeypatch)
    return folder


@pytest.fixture
def imdbtune(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that runs a command in this process and returns what it prints."""

    def call(*arguments: str, text: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        capsys.readouterr()
        app([*arguments], standalone_mode=False)
        return capsys.readouterr().out

    return call


def in_a_process(*arguments: str) -> None:
    """Run a command in a new process that does not see this one's stores."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "imdbtune", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_search_is_compared_resumed_exported_and_used(imdbtune: Callable[..., str]) -> None:
    """The README's tasks in order, as small as possible; the first in a process of its own."""
    space = ["--rnn", "gru,simple_rnn", "--units", "4,8", "--maxlen", "20"]
    in_a_process("search", "demo", *space, *SMALL, *NO_REPORT)
    assert imdbtune("compare", "--csv").count("\n") == 1 + 1
    imdbtune("search", "demo", "--resume", "--max-trials", "2", "--workers", "0")
    assert imdbtune("compare", "--csv").count("\n") == 1 + 2
    assert "rnn" in imdbtune("best")
    imdbtune("best", "--export", "winner")
    words = ("a wonderful film", "not good at all")
    assert imdbtune("predict", "--model", "winner", *words).count("\n") == 2
    assert imdbtune("predict", "--model", "winner", "-", text="so dull\n").count("\n") == 1


def test_the_page_on_the_winner_predicts_and_explains(
    here: Path, imdbtune: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """All its commands on one export, which the test above created."""
    (here / "reviews.csv").write_text("body,label\nso dull,bad\nso good,good\n")
    page = ["docs/using_the_winner.md"]
    commands = [words for words in calls("imdbtune", page) if words[:3] == PREDICT]
    assert len(commands) == 5
    (code,) = [code for code in blocks("python", page) if "api.explain" in code]
    output = "".join(imdbtune(*words, text="so dull\n") for words in commands)
    exec(compile(code, page[0], "exec"), {})
    output += capsys.readouterr().out
    probabilities = re.findall(r"\b0\.\d{4,}", output)
    assert len(probabilities) >= 2 + 1 + 2 + 1 + 1 + 2
    assert "label,probability,text" in output
    assert "('good', " in output
    assert "<html" in (here / "words.html").read_text()


def test_the_python_example_searches_and_predicts(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is, but for fewer and shorter reviews."""

    def small(name: str, overrides: dict[str, Any]) -> SearchConfig:
        smaller = {"data.reviews": 300, "space.maxlen": 20, "tracking.report": False}
        return load_config(name, overrides | smaller)

    monkeypatch.setattr("imdbtune.config.schema.load_config", small)
    (code,) = [code for code in blocks("python", ["README.md"]) if "api.search" in code]
    exec(compile(code, "README.md", "exec"), {})
    output = capsys.readouterr().out
    assert len(re.findall(r"^(?:positive|negative) 0\.\d+$", output, re.MULTILINE)) == 2


def test_summary_prints_the_numbers_of_parameters(imdbtune: Callable[..., str]) -> None:
    output = imdbtune("summary")
    assert "322,080" in output
    assert "328,320" in output
