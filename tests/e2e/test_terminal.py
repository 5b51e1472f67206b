"""What a terminal gets to see: no colours where NO_COLOR is set, nothing but text where it is dumb.

The commands run in a pseudo-terminal, one process for each kind of terminal.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pty
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imdbtune import api
from imdbtune.cli.app import main
from imdbtune.cli.predict import _print_words
from imdbtune.cli.stages import show_stages
from imdbtune.export.occlusion import Explanation, WordEffect
from imdbtune.export.predictor import Prediction
from tests.forked import Surroundings, environment_of, run_forked
from tests.support import make_config, prepare, run_search, stub_trainer

pytestmark = pytest.mark.xdist_group("terminal")
# A search whose trials take no time: a stub trains them.
SPACE = [
    "none",
    "--rnn",
    "gru",
    "--units",
    "4,8",
    "--data",
    "imdb.npz",
    "--set",
    "tracking.report=false",
]
COMMANDS = {
    "help": (["--help"], "Tracked hyperparameter search"),
    "compare": (["compare", "tiny"], "simple_rnn-d1-u4-L500"),
    "best": (["best", "--search", "tiny"], "lstm-d1-u8-L500"),
    "an error": (["best", "--search", "none"], "imdbtune: no search 'none'"),
    "a usage error": (["best", "--serach"], "imdbtune: No such option"),
    "a search": (["search", *SPACE, "--workers", "0", "--keep-models", "0"], "done: 0.5"),
}
COLOURFUL = ("bars", "explained words")
REDRAWN = ("a search", "bars")
CASES = {name: says for name, (_, says) in COMMANDS.items()} | {
    "bars": "exporting",
    "explained words": "+1.000",
}
NEXT = "---- next ----"


def end_of_case() -> None:
    sys.stdout.write(f"{NEXT}\n")
    sys.stdout.flush()


def show_all(around: Surroundings) -> None:
    """Of a process in a terminal: one case after the other."""
    around.enter()
    api.Context = functools.partial(api.Context, trainer=stub_trainer)  # type: ignore[assignment,misc]
    for arguments, _ in COMMANDS.values():
        sys.argv = ["imdbtune", *arguments]
        with contextlib.suppress(SystemExit):
            main()
        end_of_case()
    with show_stages() as told:
        for done in range(3):
            told("exporting", done, 3)
            time.sleep(0.2)
    end_of_case()
    words = (WordEffect("not", -2.0), WordEffect("good", 1.0))
    prediction = Prediction("not good", 0.2, "negative")
    _print_words(Explanation(prediction, ("negative", "positive"), words))
    end_of_case()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    prepare(folder)
    run_search(make_config(folder), folder)
    return folder


@pytest.fixture(scope="module")
def shown(stored: Path) -> Callable[..., dict[str, str]]:
    """Returns what a terminal with these environment variables gets in each case."""

    @functools.cache
    def run(**environment: str) -> dict[str, str]:
        known = {"IMDBTUNE_CACHE": str(stored / "cache"), "TERM": "xterm-256color"}
        kept = environment_of(**{**known, "COLUMNS": "100", **environment})
        others = ("NO_COLOR", "FORCE_COLOR", "TTY_", "PY_COLORS")
        kept = {k: v for k, v in kept.items() if k in environment or not k.startswith(others)}
        ours_end, theirs = pty.openpty()
        around = Surroundings(stored, kept, terminal=Path(os.ttyname(theirs)))
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(lambda: b"".join(iter(lambda: _read(ours_end), b"")).decode())
            assert run_forked(show_all, around) == 0
            os.close(theirs)
            text = read.result()
        os.close(ours_end)
        parts = text.split(NEXT)
        assert len(parts) == len(CASES) + 1, text
        return dict(zip(CASES, parts, strict=False))

    return run


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
def test_no_colours_where_none_are_wanted(case: str, shown: Callable[..., Any]) -> None:
    text = shown(NO_COLOR="1")[case]
    assert CASES[case] in text
    assert colours(text) == []
    if case not in REDRAWN:
        assert "\x1b" not in text


@pytest.mark.parametrize("case", CASES)
def test_a_dumb_terminal_gets_nothing_but_text(case: str, shown: Callable[..., Any]) -> None:
    text = shown(TERM="dumb")[case]
    assert CASES[case] in text
    assert "\x1b" not in text


@pytest.mark.parametrize("case", [*COLOURFUL, "a search"])
def test_others_get_what_can_be_drawn(case: str, shown: Callable[..., Any]) -> None:
    text = shown()[case]
    assert "\x1b[" in text
    assert bool(colours(text)) is (case in COLOURFUL)
