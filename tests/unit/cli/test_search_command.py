"""What ``imdbtune search`` says of the space before it searches it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imdbtune import api
from imdbtune.cli.app import app
from imdbtune.cli.config_flags import SEARCH_ROWS, SPACE_ROWS, ConfigFlags
from imdbtune.cli.search_preview import describe
from imdbtune.config.hyperparameters import PARAMETERS
from imdbtune.config.schema import load_config, parse_config
from tests.support import draw_nothing, isolate, prepare, stub_trainer

FILE = """
[space]
rnn = ["lstm", "gru"]
units = [4, 8]
word_dropout = { values = [0.0, 0.2], when = { rnn = ["gru"] } }
"""
Said = Callable[..., str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    isolate(monkeypatch, tmp_path)
    (tmp_path / "mine.toml").write_text(FILE)
    return tmp_path


@pytest.fixture
def dry(here: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Returns what a dry run prints."""

    def call(*words: str) -> str:
        app(["search", *words, "--data", "demo", "--dry-run"], standalone_mode=False)
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize(
    ("words", "space", "trials"),
    [
        ("", "the workflow default, with source = demo", "33 of at most 4 epochs, of 240"),
        (
            "--rnn gru --max-trials 20",
            "the workflow default, with rnn = gru instead of simple_rnn, lstm, gru; "
            "source = demo; max_trials = 20",
            "20 of at most 4 epochs, of 80",
        ),
        (
            "mine.toml --rnn lstm --pooling max --epochs 2",
            "the file mine.toml, with rnn = lstm instead of lstm, gru; pooling = max; "
            "word_dropout left out, as rnn excludes it; source = demo; epochs = 2",
            "2 of at most 2 epochs, of 2",
        ),
        (
            "none --rnn lstm,gru",
            "only rnn = lstm, gru; source = demo; all else has its default",
            "2 of at most 4 epochs, of 2",
        ),
        ("demo", "the workflow demo", "6 of at most 5 epochs, of 12"),
    ],
)
def test_two_lines_say_what_is_searched(words: str, space: str, trials: str, dry: Said) -> None:
    said = dry(*words.split())
    assert f"# space: {space}\n# trials: {trials} configurations\n" in said


@pytest.mark.parametrize("words", [("demo",), ("--space", "demo"), ("demo", "--space", "demo")])
def test_the_space_can_be_a_flag(words: tuple[str, ...], dry: Said) -> None:
    assert "# space: the workflow demo\n" in dry(*words)


def test_a_quiet_or_json_dry_run_does_not_say_it(dry: Said) -> None:
    assert "# space: " not in dry("-q")
    assert json.loads(dry("--json", "--rnn", "gru"))["configurations"] == 80


def test_without_a_space_and_flags_there_is_one_configuration(dry: Said) -> None:
    assert describe("none", load_config("none"))[0] == "space: all defaults"
    assert "trials: 1 of at most 4 epochs, of 1 configuration\n" in dry("none")


@pytest.mark.parametrize(("flags", "says"), [([], True), (["-q"], False), (["--json"], False)])
def test_a_search_says_it_first(
    flags: list[str],
    says: bool,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    prepare(here)
    draw_nothing(monkeypatch)
    monkeypatch.setattr(api, "Context", functools.partial(api.Context, trainer=stub_trainer))
    words = ["none", "--units", "4,8", "--data", "imdb.npz", "--workers", "0", "--no-baseline"]
    words += ["--keep-models", "0", "--set", "tracking.report=false", *flags]
    app(["search", *words], standalone_mode=False)
    said = capfd.readouterr()
    lines = (
        "space: only units = 4, 8; source = imdb.npz; all else has its default\n"
        "trials: 2 of at most 4 epochs, of 2 configurations\n"
    )
    assert (lines in said.err.partition(" started")[0]) == says
    assert "space: " not in said.out
    assert says or "space: " not in said.err


def test_each_flag_sets_its_key() -> None:
    """With the default of its field, spelled as on the command line."""
    values = {row.parameter: None for row in SEARCH_ROWS} | {"settings": ["space.skip=true"]}
    for row in SPACE_ROWS:
        values[row.parameter] = str(PARAMETERS[row.key.removeprefix("space.")].default).lower()
    overrides = ConfigFlags(SEARCH_ROWS).overrides(values)
    assert list(overrides) == [*(row.key for row in SPACE_ROWS), "space.skip"]
    assert (
        parse_config({}, overrides).space.single()
        == parse_config({}, {"space.skip": True}).space.single()
    )
