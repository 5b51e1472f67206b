"""The README tells the truth: its commands run, its files exist, its examples load."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.config import parse_config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = ["--reviews", "300", "--epochs", "1", "--max-trials", "2", "--workers", "0"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]
OURS = [line for line in COMMANDS if line.startswith("imdbtune ")]


@pytest.mark.parametrize("line", OURS)
def test_every_command_and_flag_exists(line: str) -> None:
    words = shlex.split(line.partition(">")[0])[1:]
    command = typer.main.get_command(app).commands[words[0]]
    context = command.make_context(words[0], words[1:])
    assert context.params


def test_the_test_command_is_that_of_the_ci() -> None:
    (documented,) = [line for line in COMMANDS if line.endswith("/pytest")]
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
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_workflows_are_those_in_the_folder() -> None:
    table = README.partition("| workflow |")[2].partition("```")[0]
    named = set(
        re.findall(
            r"`(\w+)`",
            "".join(row.split("|")[1] for row in table.splitlines() if row.count("|") == 3),
        )
    )
    assert named == {path.stem for path in (ROOT / "workflows").glob("*.toml")}


@pytest.mark.parametrize("text", blocks("toml"))
def test_the_spaces_can_be_searched(text: str) -> None:
    assert len(parse_config(tomllib.loads(text)).space.searched) > 1


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_is_python_and_its_names_exist(code: str) -> None:
    compile(code, "README.md", "exec")
    assert all(hasattr(api, name) for name in re.findall(r"\bapi\.(\w+)", code))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def imdbtune(folder: Path, *arguments: str, text: str = "") -> str:
    names = ("MLFLOW_", "IMDBTUNE_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    environment |= {"PYTHONPATH": str(ROOT), "IMDBTUNE_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "imdbtune", *arguments],
        cwd=folder, env=environment, input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_search_is_looked_at_gone_on_with_exported_and_used(folder: Path) -> None:
    """The tasks in their order, each in a process of its own, as small as they get."""
    space = ["--rnn", "gru,simple_rnn", "--units", "4", "--maxlen", "20"]
    imdbtune(folder, "search", "demo", *space, *SMALL)
    assert "rnn" in imdbtune(folder, "best")
    assert imdbtune(folder, "compare", "--csv").count("\n") == 3
    imdbtune(folder, "best", "--export", "winner")
    words = ("a wonderful film", "not good at all")
    assert imdbtune(folder, "predict", "--model", "winner", *words).count("\n") == 2
    assert imdbtune(folder, "predict", "--model", "winner", "-", text="so dull\n").count("\n") == 1
    assert (folder / "winner" / "model.keras").exists()


def test_summary_prints_the_numbers_of_parameters(folder: Path) -> None:
    told = imdbtune(folder, "summary")
    assert "322,080" in told
    assert "328,320" in told
