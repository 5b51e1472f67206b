"""What a terminal gets to see: no colours where NO_COLOR is set, nothing but text where it is dumb.

The commands run in a pseudo-terminal, as people run them.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT
from tests.support import make_config, prepare, run_search

MAIN = "from imdbtune.cli.app import main; main()"
# A search whose trials take no time: a stub trains them.
SEARCH = f"""
from functools import partial
from imdbtune import api
from tests.support import stub_trainer
api.search = partial(api.search, trainer=stub_trainer)
{MAIN}
"""
BARS = """
import time
from imdbtune.cli.progress import show_stages
with show_stages() as told:
    for done in range(3):
        told("exporting", done, 3)
        time.sleep(0.2)
"""
EXPLAIN = """
from imdbtune.cli.predict import _print_words
from imdbtune.export.occlusion import Explanation, WordEffect
from imdbtune.export.predictor import Prediction
words = (WordEffect("not", -2.0), WordEffect("good", 1.0))
_print_words(Explanation(Prediction("not good", 0.2, "negative"), ("negative", "positive"), words))
"""
SPACE = ["--rnn", "gru", "--units", "4,8", "--data", "imdb.npz", "--set", "tracking.report=false"]
CASES = {
    "help": (MAIN, ["--help"], "Tracked hyperparameter search"),
    "compare": (MAIN, ["compare", "tiny"], "simple_rnn-d1-u4-L500"),
    "best": (MAIN, ["best", "--search", "tiny"], "lstm-d1-u8-L500"),
    "an error": (MAIN, ["best", "--search", "none"], "imdbtune: no search 'none'"),
    "a usage error": (MAIN, ["best", "--serach"], "imdbtune: No such option"),
    "a search": (SEARCH, ["search", *SPACE, "--workers", "0", "--keep-models", "0"], "done: 0.5"),
    "bars": (BARS, [], "exporting"),
    "explained words": (EXPLAIN, [], "+1.000"),
}
COLOURFUL = ("bars", "explained words")
REDRAWN = ("a search", "bars")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    prepare(folder)
    run_search(make_config(folder), folder)
    return folder


def shown(case: str, folder: Path, **environment: str) -> str:
    """All that a terminal gets from a command."""
    code, words, _ = CASES[case]
    ours = ("MLFLOW_", "IMDBTUNE_", "NO_COLOR", "FORCE_COLOR", "TTY_", "PY_COLORS", "COLUMNS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    kept |= {"PYTHONPATH": str(ROOT), "IMDBTUNE_CACHE": str(folder / "cache"), "COLUMNS": "100"}
    ours_end, theirs = pty.openpty()
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        text = b"".join(iter(lambda: _read(ours_end), b""))
    os.close(ours_end)
    return text.decode()


def _read(end: int) -> bytes:
    try:
        return os.read(end, 65536)
    except OSError:  # the other end has been closed
        return b""


def colours(text: str) -> list[str]:
    """The sequences that set a colour: 30 to 38, 40 to 48, 90 and more."""
    found = re.findall(r"\x1b\[([0-9;]*)m", text)
    return [codes for codes in found if re.search(r"\b([349][0-8]|10[0-7])\b", codes)]


@pytest.mark.parametrize("case", CASES)
def test_no_colours_where_none_are_wanted(case: str, stored: Path) -> None:
    text = shown(case, stored, NO_COLOR="1")
    assert CASES[case][2] in text
    assert colours(text) == []
    if case not in REDRAWN:
        assert "\x1b" not in text


@pytest.mark.parametrize("case", CASES)
def test_a_dumb_terminal_gets_nothing_but_text(case: str, stored: Path) -> None:
    text = shown(case, stored, TERM="dumb")
    assert CASES[case][2] in text
    assert "\x1b" not in text


@pytest.mark.parametrize("case", [*COLOURFUL, "a search"])
def test_others_get_what_can_be_drawn(case: str, stored: Path) -> None:
    text = shown(case, stored)
    assert "\x1b[" in text
    assert bool(colours(text)) is (case in COLOURFUL)
