"""The files for GitHub, for a release and for its image: the programs that read them can."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement

from imdbtune import __version__

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / ".ci"
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCRIPTS = sorted(path for path in CI.iterdir() if path.suffix != ".py" and path.is_file())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCHEMAS = {
    **{path: "github-workflows" for path in WORKFLOWS},
    GITHUB / "dependabot.yml": "dependabot",
    GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml": "github-issue-forms",
    GITHUB / "ISSUE_TEMPLATE" / "feature_request.yml": "github-issue-forms",
    GITHUB / "ISSUE_TEMPLATE" / "config.yml": "github-issue-config",
    ROOT / "CITATION.cff": "citation-file-format",
}


def read(path: Path) -> Any:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if True in content:  # YAML 1.1 takes the key "on" for a boolean
        content["on"] = content.pop(True)
    return content


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_the_files_have_the_form_that_their_readers_expect(path: Path) -> None:
    vendored = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((vendored / f"{SCHEMAS[path]}.json").read_text("utf-8"))
    jsonschema.validate(read(path), schema)


def test_every_issue_template_is_checked() -> None:
    assert {*(GITHUB / "ISSUE_TEMPLATE").iterdir()} <= {*SCHEMAS}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_steps_are_scripts_that_exist(path: Path) -> None:
    jobs = read(path)["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    called = {name for command in commands for name in re.findall(r"\.ci/[\w.]+", command)}
    assert called
    for name in called:
        assert os.access(ROOT / name, os.X_OK), name
    for command in commands:  # what a pull request chooses is no part of a command
        assert "${{" not in command


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.skipif(sys.platform == "win32", reason="of bash")
def test_bash_reads_the_scripts(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "#!/usr/bin/env bash" or path.name == "steps"


def test_all_scripts_are_called() -> None:
    texts = [path.read_text(encoding="utf-8") for path in [*WORKFLOWS, *SCRIPTS]]
    names = {path.name for path in CI.iterdir() if path.is_file()} - {"run"}
    assert [name for name in names if not any(f".ci/{name}" in text for text in texts)] == []


def test_every_python_is_tested() -> None:
    tests = read(GITHUB / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    prefix = "Programming Language :: Python :: 3."
    known = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith(prefix)}
    assert {*tests["python"]} == known
    assert {row["versions"] for row in tests["include"]} == {"lowest", "newest"}


def test_the_lowest_versions_are_allowed() -> None:
    lines = runpy.run_path(str(CI / "lowest.py"))["lowest"](PROJECT["dependencies"])
    lowest = dict(line.split("==") for line in lines)
    required = [Requirement(text) for text in PROJECT["dependencies"]]
    assert set(lowest) == {each.name for each in required}
    assert all(each.specifier.contains(lowest[each.name]) for each in required)


@pytest.mark.skipif(sys.platform == "win32", reason="of bash")
@pytest.mark.parametrize(("tag", "code"), [(f"v{__version__}", 0), ("v9.9.9", 1), ("", 1)])
def test_only_the_tag_of_the_version_is_released(tag: str, code: int) -> None:
    done = subprocess.run([str(CI / "tag"), tag], capture_output=True, check=False)
    assert done.returncode == code, done.stderr


def test_the_citation_names_the_version() -> None:
    assert str(read(ROOT / "CITATION.cff")["version"]) == __version__


def test_the_image_does_the_main_job_in_its_folder_of_results() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (command,) = [line for line in lines if line.startswith("CMD ")]
    assert json.loads(command.removeprefix("CMD ")) == ["imdbtune", "search", "demo"]
    folders = [line.split()[1] for line in lines if line.startswith(("WORKDIR ", "VOLUME "))]
    assert folders[-2:] == ["/searches", "/searches"]
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
