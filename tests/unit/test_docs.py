"""What the README and docs/ show exists, and quick commands are run."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.config.extensions import registries
from imdbtune.config.schema import load_config
from imdbtune.config.space_parser import parse_flag, parse_space
from imdbtune.search import estimate
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import StepTimes
from tests.pages import PAGES, README, ROOT, TOML, blocks, calls
from tests.support import isolate, make_config, run_search, tiny_corpus

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CALLS = calls("imdbtune")
READING = ("compare", "best", "report", "data")
NOT_HERE = ("--export", "--register", "--refit", "--ensemble", "demo", "imdb.npz")  # take seconds
NOT_HERE += ("--confirmed", "--at-least")  # need confirmations, and a good model
DATA = ["data"]  # may take a network


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with all files that the pages mention."""
    isolate(monkeypatch, tmp_path)
    for name, text in TOML.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    write_reviews(tmp_path, "verdict")
    stars = [f"film {n},{n % 5 + 1}" for n in range(20)]
    (tmp_path / "stars.csv").write_text("\n".join(["review,stars", *stars]), encoding="utf-8")
    for label in ("pos", "neg"):
        folder = tmp_path / "my_reviews" / "train" / label
        folder.mkdir(parents=True)
        for number in range(4):
            (folder / f"{number}.txt").write_text(f"a {label} film, {number}")
    return tmp_path


def write_reviews(folder: Path, label: str) -> None:
    kinds = [("good", f"a wonderful film, and so well played {n}") for n in range(8)]
    kinds += [("bad", f"two hours of boredom, if not more than that {n}") for n in range(8)]
    rows = [f'"{text}",{kind}' for kind, text in kinds]
    (folder / "reviews.csv").write_text("\n".join([f"body,{label}", *rows, ""]), encoding="utf-8")


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_every_command_and_flag_exists(words: list[str]) -> None:
    context = COMMANDS[words[0]].make_context(words[0], words[1:])
    assert context.params


def test_every_command_is_shown_in_a_guide() -> None:
    guides = [page for page in PAGES if page not in ("docs/cli.md", README)]
    assert {words[0] for words in calls("imdbtune", guides)} == set(COMMANDS)
    assert {words[0] for words in calls("imdbtune", ["docs/cli.md"])} == set(COMMANDS)


@pytest.mark.parametrize(
    "words", [w for w in CALLS if w[0] == "search" and "--resume" not in w], ids=" ".join
)
def test_the_values_of_searches_are_allowed(
    words: list[str],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With invented times of steps: they are measured in test_estimate.py."""
    times = StepTimes(start_s=1.0, seconds=1.0, steps=10, time_steps=100_000)
    monkeypatch.setattr(estimate, "time_specs", lambda specs, workers: [times] * len(specs))
    tiny_corpus(here)
    if "stars" in words:
        write_reviews(here, "stars")
    app([*words, "--dry-run"], standalone_mode=False)
    assert "# would run on " in capsys.readouterr().out


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with searches of the names that the pages use."""
    folder = tmp_path_factory.mktemp("stored")
    for name in ("maxlen", "rnn_types"):
        run_search(make_config(folder, name=name), folder)
    return folder / "mlflow.db"


@pytest.fixture
def searched(here: Path, stored: Path) -> Path:
    shutil.copyfile(stored, here / "mlflow.db")
    return here


READ = [
    words for words in CALLS if words[0] in READING and not {*words} & {*NOT_HERE} and words != DATA
]


@pytest.mark.parametrize("words", READ, ids=" ".join)
def test_commands_that_read_do_it(
    words: list[str], searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app(words, standalone_mode=False)
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", TOML)
def test_the_spaces_can_be_searched(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TOML[name], encoding="utf-8")
    assert len(load_config(str(tmp_path / name)).space.searched) > 1


def test_a_range_means_the_same_in_a_file_and_as_a_flag() -> None:
    table = PAGES["docs/hyperparameters.md"].partition("| form |")[2]
    rows = re.findall(r"^\|[^|]+\| `(units = .*)` \| `--units (\S+)` \|$", table, re.MULTILINE)
    assert len(rows) == 6
    for toml, flag in rows:
        inner = tomllib.loads(toml)
        assert parse_space(inner).dimensions == (parse_flag("units", flag),)


def test_mlflow_knows_the_entry_points_and_their_parameters() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    runs = [words for words in calls("mlflow") if words[0] == "run"]
    assert runs
    for words in runs:
        options = list(zip(words[2::2], words[3::2], strict=True))
        (point,) = [value for option, value in options if option == "-e"]
        given = {value.partition("=")[0] for option, value in options if option == "-P"}
        assert given <= set(project["entry_points"][point]["parameters"])


def test_the_filter_for_mlflow_finds_the_trials(searched: Path) -> None:
    (query,) = re.findall(r"``(tags\..+?)``", PAGES["docs/mlflow.md"])
    client = connect(f"sqlite:///{searched}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "imdbtune"]
    found = client.search_runs([experiment.experiment_id], query.replace("0.85", "0.5"))
    assert len(found) == 8
    assert {run.data.tags["imdbtune.kind"] for run in found} == {"trial"}


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_code_calls_existing_functions(code: str) -> None:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("imdbtune"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("api."):
            function = getattr(api, ast.unparse(node.func).removeprefix("api."))
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(function).bind(*node.args, **keywords)


def test_the_table_is_available_in_python(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (c for c in blocks("python", ["docs/reading_results.md"]) if "compare" in c)
    exec(compile(code, "reading_results.md", "exec"), {})
    assert "lstm" in capsys.readouterr().out


# Not imported: other packages install a folder docs/, which could be found first.
MAKE = runpy.run_path(str(ROOT / "docs" / "make.py"))


@pytest.mark.parametrize(("name", "text"), MAKE["pages"]().items())
def test_the_generated_pages_are_up_to_date(name: str, text: str) -> None:
    assert PAGES[f"docs/{name}"] == text, f"docs/{name} is out of date; run: python -m docs.make"


def test_every_registry_has_its_table() -> None:
    assert len(registries()) >= 3
    for registry in registries():
        section = PAGES["docs/extensions.md"].partition(f"`{registry.group}`")[2]
        assert all(f"`{name}`" in section.partition("\n## ")[0] for name in registry)


def test_tables_in_other_pages_are_written_anew() -> None:
    page = "a\n\n<!-- metrics -->\nold\n<!-- end -->\n\n<!-- a comment -->\nb\n"
    new = page.replace("\nold\n", "\n\n| new |\n\n")
    assert MAKE["_with_tables"](page, {"metrics": "| new |\n"}) == new


def test_the_index_names_every_page() -> None:
    index = PAGES["docs/index.md"]
    files = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.ipynb")]
    pages = {path.name for path in files} - {"index.md"}
    assert set(re.findall(r"\]\((\w+\.(?:md|ipynb))\)", index)) == pages
    in_menu = "\n".join(re.findall(r"^```{toctree}\n(.*?)^```", index, re.MULTILINE | re.DOTALL))
    names = {name.partition(".")[0] for name in pages}
    assert set(re.findall(r"^\w+$", in_menu, re.MULTILINE)) == names


def test_the_api_reference_names_every_package() -> None:
    page = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (ROOT / "imdbtune").glob("*/__init__.py")} - {"cli"}
    named = set(re.findall(r"^ +imdbtune\.(\w+)$", page, re.MULTILINE))
    assert named == packages | {"api", "errors", "files"}


def anchors(text: str) -> set[str]:
    """Return the anchors that hosting sites give to headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


LINKING = [
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "deploy/*.md")
    for path in ROOT.glob(pattern)
]


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in LINKING))
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), target
