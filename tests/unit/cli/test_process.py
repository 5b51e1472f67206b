"""The command line as a process: its exit codes, and what happens where nobody reads its output."""

import os
import subprocess
import sys

import pytest

RUN = (sys.executable, "-m", "imdbtune")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--version"], 0), (["search", "--units", "none"], 2), (["no-such-command"], 2)],
)
def test_exit_codes_are_those_of_the_command_line(arguments: list[str], code: int) -> None:
    done = subprocess.run([*RUN, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert (done.stderr if code else done.stdout).startswith("imdbtune")


@pytest.mark.parametrize(
    ("redirected", "code", "message"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("| true", 1, ""),  # typer's code
        ("| head -c 5 > /dev/null", 0, ""),
        (
            ">/dev/full",
            1,
            "imdbtune: No space left on device; fix this and run the command again.\n",
        ),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="of a shell and /dev/full")
def test_output_that_nobody_reads(redirected: str, code: int, message: str) -> None:
    for command in ("search --help", "--version"):
        script = f"set -o pipefail; {' '.join(RUN)} {command} {redirected}"
        shell = ["bash", "-c", script]
        done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, message)


def test_an_unexpected_error_is_no_success() -> None:
    code = "from imdbtune.cli import app; app.app = lambda **settings: 1 / 0; app.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_the_back_end_of_a_notebook_is_not_needed() -> None:
    """Keras imports matplotlib, which refuses a back end that is not installed."""
    done = subprocess.run(
        [*RUN, "summary", "listing_6_23"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": "module://no_such_package.backend_inline"},
    )
    assert done.returncode == 0, done.stderr
