"""The command line as a process: it ends at once, with all said, and the right exit code."""

import subprocess
import sys

import pytest

RUN = "from imdbtune.__main__ import run; run()"
# Something that Python takes down at its end, and something that is to happen there.
LEFT = """
import sys
class Loud:
    def __del__(self): print("taken down")
sys.loud = Loud()
def main():
    import atexit
    atexit.register(print, "last words")
    print("x" * 300_000)
    sys.exit(7)
from imdbtune import __main__
__main__.main = main
__main__.run()
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--version"], 0), (["search", "--units", "none"], 2), (["no-such-command"], 2)],
)
def test_exit_codes_are_those_of_the_command_line(arguments: list[str], code: int) -> None:
    done = python(RUN, *arguments)
    assert done.returncode == code
    assert (done.stderr if code else done.stdout).startswith("imdbtune")


def test_all_is_said_and_nothing_taken_down() -> None:
    done = python(LEFT)
    assert done.returncode == 7
    assert done.stdout == "x" * 300_000 + "\nlast words\n"
    assert not done.stderr


def test_a_fault_of_its_own_is_no_success() -> None:
    done = python("from imdbtune import __main__ as m; m.main = lambda: 1 / 0; m.run()")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
