"""The README tells the truth: its commands and examples run, its files exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from imdbtune.cli.app import app
from imdbtune.config import load_config
from tests.support import isolate

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands
SMALL = ["--reviews", "300", "--epochs", "1", "--max-trials", "2", "--workers", "0"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("bash") for line in block.splitlines()]
TOML = {text.splitlines()[0].removeprefix("# "): text for text in blocks("toml")}


def calls(program: str) -> list[list[str]]:
    """The words after ``program`` wherever the README calls it, in pipes and chains too."""
    found = []
    for line in LINES:
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        for command in _split(words):
            if command[0].rpartition("/")[2] == program:
                found.append(command[1:])
    return found


def _split(words: Iterator[str]) -> list[list[str]]:
    """Simple commands, without redirections."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("|", "&&", ";"):
            commands.append([])
        elif word in (">", "<"):
            next(words)
        else:
            commands[-1].append(word)
    return commands


@pytest.mark.parametrize("words", calls("imdbtune"), ids=" ".join)
def test_every_command_and_flag_exists(words: list[str]) -> None:
    context = COMMANDS[words[0]].make_context(words[0], words[1:])
    assert context.params


def test_every_command_is_shown() -> None:
    assert {words[0] for words in calls("imdbtune")} == set(COMMANDS)


@pytest.mark.parametrize(
    "words",
    [w for w in calls("imdbtune") if w[0] == "search" and "--resume" not in w],
    ids=" ".join,
)
def test_the_values_of_searches_are_allowed(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    isolate(monkeypatch, tmp_path)
    for name, text in TOML.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    app([*words, "--dry-run"], standalone_mode=False)
    assert "# would run: " in capsys.readouterr().out


@pytest.mark.parametrize("name", TOML)
def test_the_spaces_can_be_searched(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TOML[name], encoding="utf-8")
    assert len(load_config(str(tmp_path / name)).space.searched) > 1


def test_mlflow_knows_the_entry_points_and_their_parameters() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    runs = [words for words in calls("mlflow") if words[0] == "run"]
    assert runs
    for words in runs:
        options = list(zip(words[2::2], words[3::2], strict=True))
        (point,) = [value for option, value in options if option == "-e"]
        given = {value.partition("=")[0] for option, value in options if option == "-P"}
        assert given <= set(project["entry_points"][point]["parameters"])


def test_the_test_command_is_that_of_the_ci() -> None:
    (documented,) = [line for line in LINES if line.endswith("/pytest")]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert documented.replace(".venv", "$venv").replace('"', "") == ci.replace('"', "")


def test_every_module_is_listed_and_every_listed_one_exists() -> None:
    tree = README.partition("## Files")[2]
    listed, folder = set(), Path("imdbtune")
    for indent, name in re.findall(r"^( +)([\w/]+(?:\.py)?) *", tree, re.MULTILINE):
        if name.endswith("/"):
            folder = Path("imdbtune", name)
        elif name.endswith(".py"):
            listed.add(str((folder if len(indent) == 4 else Path("imdbtune")) / name))
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "imdbtune").rglob("*.py")}
    assert listed == {name for name in modules if not name.endswith("__init__.py")}


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_workflows_are_those_in_the_folder() -> None:
    table = README.partition("| workflow |")[2].partition("```")[0]
    first_cells = re.findall(r"^\|([^|]+)\|[^|]+\|$", table, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", "".join(first_cells)))
    assert named == {path.stem for path in (ROOT / "workflows").glob("*.toml")}


def test_the_limits_that_are_told_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (first, last) = re.findall(r"With Python (\d+\.\d+) to (\d+\.\d+)", README)[0]
    known = {line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line}
    assert {first, last} <= known
    assert project["requires-python"].startswith(f">={first},")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def python(folder: Path, *arguments: str, text: str = "") -> str:
    """What a fresh process prints that knows nothing of this one's stores."""
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


def test_a_search_is_looked_at_gone_on_with_exported_and_used(folder: Path) -> None:
    """The tasks in their order, each in a process of its own, as small as they get."""
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
    (code,) = [code for code in blocks("python") if "winner/model.keras" in code]
    assert "Total params" in python(folder, "-c", code)


def test_the_python_example_searches_and_predicts(folder: Path) -> None:
    (code,) = [code for code in blocks("python") if "api.search" in code]
    labels = re.findall(r"^(?:positive|negative) 0\.\d+$", python(folder, "-c", code), re.MULTILINE)
    assert len(labels) == 2


def test_summary_prints_the_numbers_of_parameters(folder: Path) -> None:
    told = imdbtune(folder, "summary")
    assert "322,080" in told
    assert "328,320" in told
