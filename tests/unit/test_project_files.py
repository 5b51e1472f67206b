"""The files that tools read agree with each other and with the command line."""

from __future__ import annotations

import re
import string
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from imdbtune import __version__
from imdbtune.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_conda_installs_what_the_project_depends_on() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))
    pip = conda["dependencies"][-1]["pip"]
    assert pip == ["-c constraints.txt", *PROJECT["dependencies"]]


def test_constraints_are_names_and_versions_only() -> None:
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_dependency_is_pinned() -> None:
    pinned = {canonical(line.partition("==")[0]) for line in CONSTRAINTS}
    extras = PROJECT["optional-dependencies"]
    required = [*PROJECT["dependencies"], *extras["dev"], *extras["docs"]]
    assert {canonical(re.split(r"[<>=[]", line)[0]) for line in required} <= pinned


def test_the_changelog_knows_the_version() -> None:
    assert f"\n## [{__version__}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points_use_all_their_parameters_and_only_known_flags(name: str) -> None:
    point: dict[str, Any] = ENTRY_POINTS[name]
    fields = [field for _, field, _, _ in string.Formatter().parse(point["command"]) if field]
    assert fields == list(point["parameters"])
    name = point["command"].partition("python -m imdbtune ")[2].split()[0]
    command = typer.main.get_command(app).commands[name]
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", point["command"])) <= known
    variables = {str(parameter.envvar) for parameter in command.params}
    assert set(re.findall(r"(\w+)=\{", point["command"].partition("python")[0])) <= variables


def test_the_main_entry_point_is_the_search() -> None:
    assert ENTRY_POINTS["main"] == ENTRY_POINTS["search"]


def test_the_hooks_of_pre_commit_run_installed_tools() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    ci = (ROOT / ".ci" / "checks").read_text(encoding="utf-8")
    assert [hook["name"] for hook in repo["hooks"] if f'step "{hook["name"]}"' not in ci] == []
