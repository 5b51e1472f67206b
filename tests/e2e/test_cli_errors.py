"""Wrong input, by the hundred: each gets one line and exit code 2, and leaves nothing behind.

The command line runs in this process, in an empty working directory, with its real standard
streams; a few run as processes of their own. What it says stands in ``cli_errors.txt``.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imdbtune.cli.app import main
from imdbtune.config.extensions import CELLS
from tests.broken_inputs import write_broken_inputs
from tests.e2e.cli_error_cases import COMMANDS, GROUPS, SECRET, Case, Toml
from tests.forked import run_command
from tests.support import isolate

GOLDEN = Path(__file__).with_name("cli_errors.txt")
AT_MOST_S = 60
LONGEST = 70  # characters of an argument in the golden file


@dataclass(frozen=True)
class Answer:
    code: Any
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture(scope="session")
def materials(built_once: Callable[..., Path]) -> Path:
    """The folder that ``{m}`` stands for."""
    return built_once("materials", write_broken_inputs)


@pytest.fixture(scope="module")
def dead_port() -> Iterator[int]:
    """A port of this machine where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty working directory of a case."""
    (tmp_path / "here").mkdir()
    isolate(monkeypatch, tmp_path / "here")
    monkeypatch.setenv("IMDBTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


def hang_no_longer(number: int, frame: object) -> None:
    raise RuntimeError(f"no answer within {AT_MOST_S} seconds")


@pytest.fixture
def run(here: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Calls the command line in this process, as the console script does."""
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(end) for end in ends]
    signal.signal(signal.SIGALRM, hang_no_longer)

    def call(*arguments: str, stdin: bytes = b"") -> Answer:
        signal.alarm(AT_MOST_S)
        try:
            with pytest.MonkeyPatch.context() as patch:
                isolate(patch, here)
                patch.setenv("IMDBTUNE_CACHE", str(here.parent / "cache"))
                patch.setattr(sys, "argv", ["imdbtune", *arguments])
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
                with pytest.raises(SystemExit) as ended:
                    main()
        finally:
            signal.alarm(0)
        told = capfd.readouterr()
        return Answer(ended.value.code, told.out, told.err)

    yield call
    for end, handler in zip(ends, handlers, strict=True):
        signal.signal(end, handler)


def contents(folder: Path) -> dict[str, int]:
    """The files with their sizes; the cache is ours to write."""
    found = (path for path in folder.rglob("*") if "cache" not in path.parts)
    return {str(path): path.stat().st_size for path in found if path.is_file()}


def arguments_of(case: Case, toml: Path) -> list[str]:
    """A command line with ``{m}`` and the like still in it; what it needs stands in ``toml``."""
    if isinstance(case, Toml):
        content = case.content if isinstance(case.content, bytes) else case.content.encode()
        toml.write_bytes(content)
        return ["search", "--dry-run", "{toml}"]
    return case.split() if isinstance(case, str) else list(case)


def described(case: Case, arguments: list[str]) -> str:
    """A case as a line of the golden file."""
    shown = [*arguments, *([repr(case.content)] if isinstance(case, Toml) else [])]
    cut = [a if len(a) <= LONGEST else f"{a[:20]}... ({len(a)} characters)" for a in shown]
    return " ".join(a if a.isprintable() and a.strip() else ascii(a) for a in cut)


def faults_of(answer: Answer) -> list[str]:
    """What is not as it has to be in each answer."""
    message = answer.err.removesuffix("\n")
    expected = {
        "the exit code is 2": answer.code == 2,
        "nothing on standard output": not answer.out,
        "it says who speaks": message.startswith("imdbtune: "),
        "one line": len(answer.err.splitlines()) == 1,
        "nothing that steers a terminal": message.isprintable(),
        "a message that can be read": len(message) < 1000,
        "no password": SECRET not in message,
    }
    return [f"not so: {what}: {answer}" for what, holds in expected.items() if not holds]


def normalized(err: str, known: dict[str, Any]) -> str:
    """A message without what differs between two runs of the tests."""
    message = err.strip().removeprefix("imdbtune: ")
    for name, value in known.items():
        message = re.sub(
            rf"\b{value}\b" if name == "port" else re.escape(str(value)), f"{{{name}}}", message
        )
    message = message.replace(f"{socket.gethostname()}:", "{host}:")
    message = re.sub(r"(.)\1{30,}", r"\1\1\1...", message)
    return re.sub(r"\b[0-9a-f]{32}\b", "{id}", message)


@pytest.mark.parametrize("group", GROUPS)
def test_wrong_input_gets_one_line_and_leaves_nothing(
    group: str,
    run: Run,
    here: Path,
    materials: Path,
    dead_port: int,
    tmp_path: Path,
    golden: Callable[[Path, str, str], None],
) -> None:
    known = {"m": materials, "port": dead_port, "toml": tmp_path / "mine.toml"}
    known["trial"] = (materials / "trial_id").read_text()
    known["cells"] = ", ".join(CELLS)
    before, faults, lines = contents(materials), [], []
    for case in GROUPS[group]:
        arguments = arguments_of(case, tmp_path / "mine.toml")
        line = described(case, arguments)
        answer = run(*(a.format(**known) if "{" in a else a for a in arguments))
        found = faults_of(answer)
        found += [f"{path} is left" for path in here.iterdir()]
        found += [f"{path} has changed" for path in contents(materials).items() ^ before.items()]
        faults += [f"{line}: {fault}" for fault in found]
        lines.append(f"{line}\n    {normalized(answer.err, {**known, 'here': here})}\n")
    assert not faults, "\n".join(faults)
    golden(GOLDEN, group, "".join(lines))


def test_a_process_of_its_own_answers_alike(here: Path) -> None:
    command = [sys.executable, "-m", "imdbtune", "best"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment())
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    assert b"no tracking store at" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert list(here.iterdir()) == []


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


ODD_TEXTS = [
    b"",
    b" \t ",
    b"a wonderful film",
    b"w1 " * 350_000,
    "🎬🍿 👍".encode(),
    "великолепный фильм".encode(),
    "映画はとても良い".encode(),
    "سينما رائعة".encode(),
    b"\x1b[2J\x1b[31mred",
    b"\r\r",
    b"--model",
]


def test_no_text_is_an_error(run: Run, here: Path, materials: Path) -> None:
    """Each text is a line of standard input; what may be an argument is one as well."""
    given = [os.fsdecode(text) for text in ODD_TEXTS if len(text) < 100_000]
    given.append(os.fsdecode(b"\xff\xfe not UTF-8 \xc3"))
    arguments = ["predict", "--model", str(materials / "export"), "--json", "-", "--", *given]
    answer = run(*arguments, stdin=b"\n".join(ODD_TEXTS) + b"\n")
    assert (answer.code, answer.err) == (0, "")
    answers = [json.loads(line) for line in answer.out.splitlines()]
    assert len(answers) == len(ODD_TEXTS) + len(given)
    assert all(math.isfinite(answer["probability"]) for answer in answers)
    assert {answer["label"] for answer in answers} <= {"positive", "negative"}
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b"a wonderful film\n", mtime=0), "line 1: byte 1 of the file is 0x8b"),
        ("a wonderful film\n".encode("utf-16"), "line 1: byte 0 .* it is in UTF-16"),
        ("a wonderful film\n".encode("utf-16-le"), "line 1: byte 1 of the file is zero"),
        (b"a wonderful film\nzero \0 bytes\n", "line 2: byte 22 of the file is zero"),
        (b"a wonderful film\ncaf\xe9\n", "line 2: byte 20 of the file is 0xe9"),
    ],
)
def test_what_is_no_text_gets_no_prediction(
    content: bytes, says: str, run: Run, materials: Path, tmp_path: Path
) -> None:
    (tmp_path / "reviews.txt").write_bytes(content)
    model = ["predict", "--model", str(materials / "export")]
    for source, name in (["-"], "standard input"), (["--file", f"{tmp_path}/reviews.txt"], "txt"):
        answer = run(*model, *source, stdin=content)
        assert re.search(f"{name}, {says}", answer.err), answer.err
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert answer.out.count("\n") <= 1  # what stands before


def test_a_mark_of_the_byte_order_is_not_part_of_the_first_word(
    run: Run, materials: Path, tmp_path: Path
) -> None:
    content = "\ufeffw1 w2\nw1 w2\n".encode()
    (tmp_path / "reviews.txt").write_bytes(content)
    model = ["predict", "--model", str(materials / "export"), "--json"]
    for source in ["-"], ["--file", f"{tmp_path}/reviews.txt"]:
        first, second = run(*model, *source, stdin=content).out.splitlines()
        assert json.loads(first)["text"] == "w1 w2"
        assert first == second


def test_what_is_shown_of_a_text_steers_no_terminal(materials: Path, here: Path) -> None:
    """In a process of its own: standard input is read as bytes."""
    arguments = ["predict", "--model", str(materials / "export"), "-"]
    done = run_command(here, *arguments, given=b"\n".join(ODD_TEXTS))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert len(lines) == len(ODD_TEXTS) + 1
    assert all(line.isprintable() for line in lines)


def test_without_arguments_the_help_is_shown(run: Run) -> None:
    answer = run()
    assert (answer.code, answer.out) == (2, "")
    assert all(f"\n  {command}" in answer.err for command in COMMANDS)


def test_a_mark_of_the_byte_order_before_a_file_is_no_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("\ufeff[space]\nunits = 4", encoding="utf-8")
    answer = run("search", "--dry-run", str(tmp_path / "mine.toml"))
    assert (answer.code, answer.err) == (0, "")
    assert "units = 4" in answer.out


def test_a_full_disk_is_told_in_a_line(here: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "imdbtune", "search", "--dry-run"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env=environment(),
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"imdbtune: No space left on device")
    assert done.stderr.count(b"\n") == 1
