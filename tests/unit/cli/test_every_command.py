"""What all commands share: help, environment variables, completion, JSON."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from imdbtune.cli import library_output
from imdbtune.cli.app import app
from imdbtune.cli.command import environment_variable, format_help, mention_variables
from imdbtune.cli.completion import make_completer
from imdbtune.cli.output import print_json, print_next_steps
from imdbtune.cli.progress import Progress
from imdbtune.cli.stages import ProgressLines, show_stages, supports_live_display
from imdbtune.cli.tables import format_duration
from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.search.events import BaselineEnded, Notice, TrialEnded
from imdbtune.tracking.connection import connect
from imdbtune.tracking.mlflow_names import LINEAR
from imdbtune.tracking.writer import SearchRun
from tests.support import isolate, new_store

ROOT = Path(__file__).resolve().parents[3]
GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands
# Options that set nothing.
ASKING = ("help", "version", "install_completion", "show_completion")


def options(name: str) -> list[Any]:
    found = (p for p in COMMANDS[name].params if p.param_type_name == "option")
    return [option for option in found if option.name not in ASKING]


def needed(name: str) -> list[str]:
    """A word for each argument that a command cannot do without."""
    return ["word" for p in COMMANDS[name].params if p.param_type_name == "argument" and p.required]


def help_of(*words: str) -> str:
    command = COMMANDS[words[0]] if words else GROUP
    context = GROUP.make_context("imdbtune", [*words], resilient_parsing=True)
    if words:
        context = command.make_context(words[0], [], parent=context, resilient_parsing=True)
    return str(command.get_help(context))


def examples(name: str) -> list[list[str]]:
    block = re.search(r"^  Examples:\n((?:    .*\n)+)", help_of(name), re.MULTILINE)
    assert block, name
    return [
        shlex.split(line.partition(" < ")[0].partition(" > ")[0]) for line in block[1].splitlines()
    ]


FLAGS = [(name, option) for name in COMMANDS for option in options(name)]


@pytest.mark.parametrize(("name", "option"), FLAGS, ids=lambda p: getattr(p, "name", p))
def test_every_flag_can_be_set_by_its_variable(
    name: str, option: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = max(option.opts, key=len)
    made = f"IMDBTUNE_{name.upper()}_{flag.strip('-').replace('-', '_').upper()}"
    for other in [key for key in os.environ if key.startswith("IMDBTUNE_")]:
        monkeypatch.delenv(other)
    before = COMMANDS[name].make_context(name, needed(name)).params[option.name]
    sent: dict[type, tuple[str, Any]] = {
        bool: (str(int(not before)), not before),
        str: ("3", "3"),
        list: ("a.b=1 c.d=2", ["a.b=1", "c.d=2"]),
    }
    kind = list if option.multiple else bool if option.is_flag else str
    text, value = sent[kind]
    monkeypatch.setenv(made, text)
    after = COMMANDS[name].make_context(name, needed(name)).params[option.name]
    assert (list(after) if kind is list else after) == value
    assert after != before


def test_the_version_and_completion_are_not_set_by_accident() -> None:
    assert [p.envvar for p in GROUP.params if p.envvar] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_quiet_and_verbose(name: str) -> None:
    short = {opt for option in options(name) for opt in option.opts}
    assert {"-q", "--quiet", "-v", "--verbose"} <= short


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_in_json(name: str) -> None:
    assert "--json" in {opt for option in options(name) for opt in option.opts}


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_can_be_read_in_80_columns(name: str) -> None:
    text = help_of(*filter(None, [name]))
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "\x1b" not in text
    assert "env var" not in text
    assert "..." not in re.sub(r"\[\w+\]\.\.\.", "", text), "a line has been cut: shorten it"
    assert "130 interrupted" in " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_are_commands(name: str) -> None:
    found = examples(name)
    assert found
    for program, command, *words in found:
        assert (program, command) == ("imdbtune", name)
        assert COMMANDS[name].make_context(name, words).params


def test_the_order_of_the_examples_is_kept() -> None:
    laid = format_help("About.\n\nExamples:\n\n  imdbtune a\n\n  imdbtune b\n")
    assert laid == "About.\n\n\b\nExamples:\n  imdbtune a\n  imdbtune b"


def test_a_message_names_the_variable_whose_value_it_has() -> None:
    flags = {"--search": "nine", "--no-test": "1"}
    variables = {environment_variable("best", flag): value for flag, value in flags.items()}
    one, both = "IMDBTUNE_BEST_SEARCH", "IMDBTUNE_BEST_SEARCH, IMDBTUNE_BEST_NO_TEST"
    assert mention_variables("no search 'nine'", variables) == f" Set in the environment: {one}."
    assert mention_variables("else", variables) == f" Set in the environment: {both}."
    assert mention_variables("no search 'nine'", {}) == ""


@pytest.mark.parametrize(
    ("name", "begun", "offered"),
    [
        ("--rnn", "", list(CELLS)),
        ("--rnn", "lstm,sim", ["lstm,simple_rnn"]),
        ("--rnn", "lstm,l", []),
        ("--format", "keras,on", ["keras,onnx"]),
        ("--tuner", "b", ["bayesian"]),
        ("--pooling", "last,me", ["last,mean"]),
        ("--bidirectional", "", ["true", "false"]),
        ("--objective", "val_accuracy,par", ["val_accuracy,parameter_count"]),
        ("--space", "no", ["none"]),
        ("--prune", "", ["none", "median", "asha"]),
        ("--data", "de", ["demo"]),
        ("--compile", "a", ["auto"]),
        ("--keep-models", "", ["all", "best"]),
        ("--set", "space.poo", ["space.pooling="]),
        ("--set", "training.pat", ["training.patience="]),
        ("SPACE", "rnn", ["rnn_types"]),
        ("MODEL", "listing_6_2", ["listing_6_23", "listing_6_27"]),
        ("MODEL", "my", ["my.toml"]),
    ],
)
def test_values_are_completed(
    name: str, begun: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").touch()
    complete = make_completer(name)
    assert complete is not None
    assert complete(begun) == offered


def test_names_of_searches_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, tmp_path)
    for name in ("SEARCH", "--search"):
        assert completions(name, "r") == []  # there is no store
    client = connect(new_store(tmp_path))
    for search in ("rnn_types", "maxlen", "rnn_types"):
        SearchRun.open(client, search, "imdbtune", {}, "search").end("FINISHED")
    for name in ("SEARCH", "--search"):
        assert completions(name, "r") == ["rnn_types"]
        assert completions(name, "") == ["rnn_types", "maxlen"]
    named = {"tracking_uri": f"sqlite:///{tmp_path}/other.db"}
    assert completions("SEARCH", "", **named) == []
    for command in ("best", "confirm", "sync", "report", "ui", "compare"):
        argument = COMMANDS[command].params[0]
        context = COMMANDS[command].make_context(command, [], resilient_parsing=True)
        offered = argument.shell_complete(context, "max")
        assert [item.value for item in offered] == ["maxlen"]


def completions(name: str, begun: str, **given: str) -> list[str]:
    complete: Any = make_completer(name)
    context = COMMANDS["best"].make_context("best", [], resilient_parsing=True)
    context.params.update(given)
    found: list[str] = complete(context, begun)
    return found


SHELLS = {
    "bash": {"COMP_WORDS": "imdbtune search --rnn lstm,g", "COMP_CWORD": "3"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "imdbtune search --rnn lstm,g"},
    "fish": {
        "_TYPER_COMPLETE_ARGS": "imdbtune search --rnn lstm,g",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    },
}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_are_answered_without_heavy_packages(shell: str, tmp_path: Path) -> None:
    code = (
        "import atexit, sys; from imdbtune.cli.app import main\n"
        "heavy = ('tensorflow', 'keras', 'mlflow', 'pandas', 'imdbtune.tracking.writer')\n"
        "heavy += ('tomllib',)\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules], file=sys.stderr))\n"
        "main()"
    )
    asked = {**SHELLS[shell], "_IMDBTUNE_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "lstm,gru" in done.stdout, done.stderr
    assert "simple_rnn" not in done.stdout
    assert done.stderr.strip() == "[]"


def test_json_has_null_instead_of_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.nan, "b": [math.inf, 1.5], "c": "é"})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 1.5],
        "c": "é",
    }


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "imdbtune", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_verbose_prints_folders_and_json_stays_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("IMDBTUNE_DATA_DATA", "demo")
    done = run(tmp_path, "data", "--json", "-v")
    assert json.loads(done.stdout)["name"] == "demo"
    for told in ("IMDBTUNE_DATA_DATA", "mlflow.db", str(tmp_path / "cache")):
        assert told in done.stderr
    done = run(tmp_path, "data", "--json", "-v", "-q")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--quiet and --verbose are mutually exclusive" in done.stderr


@pytest.mark.parametrize(
    ("set_to", "says"),
    [
        ({"IMDBTUNE_SEARCH_EPOCHS": "0", "IMDBTUNE_SEARCH_SEED": "4"}, "IMDBTUNE_SEARCH_EPOCHS."),
        ({"IMDBTUNE_SEARCH_RESUME": "maybe"}, "IMDBTUNE_SEARCH_RESUME = 'maybe'"),
    ],
)
def test_wrong_variables_are_named(set_to: dict[str, str], says: str, tmp_path: Path) -> None:
    done = run(tmp_path, "search", "--dry-run", **set_to)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert "SEED" not in done.stderr


def test_library_output_is_shown_only_with_verbose(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    with library_output.redirect_library_output() as err:
        os.write(2, b"native\n")
        err.write("ours\n")
    assert capfd.readouterr().err == "ours\n"
    assert (tmp_path / "cache" / "libraries.log").read_text() == "native\n"
    with library_output.set_library_output(True), library_output.redirect_library_output() as err:
        os.write(2, b"native\n")
        err.write("ours\n")
    assert capfd.readouterr().err == "native\nours\n"
    assert not library_output.is_library_output_shown()


def test_progress_of_stages_is_written_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.0, 30.0])
    monkeypatch.setattr("imdbtune.cli.progress.time.monotonic", lambda: next(clock))
    told: list[str] = []
    lines = ProgressLines(told.append)
    for done in (0, 5, 25, 30, 100):
        lines("reading", done, 100)
    assert told == ["reading ...", "reading: 25%; about 30 s left"]


def test_progress_names_the_metric_of_the_linear_model() -> None:
    screen = io.StringIO()
    progress = Progress(screen)
    progress(BaselineEnded(LINEAR, 0.9, 2.0))
    progress(BaselineEnded(LINEAR, 0.5849, 2.0, "f1"))
    first, second = screen.getvalue().splitlines()
    assert first == "a linear model on word n-grams reaches 0.9000 in 2 s"
    assert second == "a linear model on word n-grams reaches val_f1 0.5849 in 2 s"


def test_a_trial_that_had_ended_before_has_no_duration() -> None:
    screen = io.StringIO()
    progress = Progress(screen, total=3)
    progress(TrialEnded("0000", TrialParams(), "r", 0.75, ""))
    assert "done: 0.7500; best so far" in screen.getvalue()
    assert "left" not in screen.getvalue()


HOSTILE = "[/x] [red]\x1b[31m\bgone"


def test_foreign_text_is_not_markup_and_holds_no_control_characters() -> None:
    """Text of libraries, stores and file names."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    progress = Progress(screen, write_live=partial(console.print, markup=False))
    progress(Notice(HOSTILE))
    progress.names[""], progress.epoch_limits[""], progress.started[""] = "lstm [/x]", 3, 0.0
    console.print(progress.table())
    told = screen.getvalue()
    assert r"[/x] [red]\x1b[31m\x08gone" in told
    assert "[train]" in told
    assert "lstm [/x]" in told


def test_bars_take_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("imdbtune.cli.progress.supports_live_display", lambda console: True)
    with show_stages(screen) as advance:
        advance(HOSTILE, 1, 2)
    lines: list[str] = []
    ProgressLines(lines.append)(HOSTILE, 0, 2)
    assert lines == [r"[/x] [red]\x1b[31m\x08gone ..."]


def test_times_are_rounded_to_what_people_say() -> None:
    assert (format_duration(89.4), format_duration(150)) == ("89 s", "2 min")


@pytest.mark.parametrize(
    ("used", "told"),
    [
        ("", ""),
        ("sqlite:///mlflow.db", ""),
        ("http://me:word@box:5000", " (with --tracking-uri http://***@box:5000)"),
    ],
)
def test_the_next_commands_find_the_store(
    used: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    print_next_steps("imdbtune ui", used)
    assert capsys.readouterr().out == f"next: imdbtune ui{told}\n"


def test_a_command_in_a_cell_of_a_notebook_writes_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    assert supports_live_display(console)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert not supports_live_display(console)
