"""The typer application, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys

import typer
from typer.exceptions import TyperException

from imdbtune import __version__
from imdbtune.cli import best, compare, data, predict, search, summary, train
from imdbtune.errors import ImdbtuneError, UserError

EPILOG = "Exit codes: 0 done, 1 ended without success, 2 wrong input, 130 interrupted."

app = typer.Typer(
    name="imdbtune",
    help="Tracked hyperparameter search for recurrent text models on the IMDB reviews.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "IMDBTUNE"},
)
for command in (search, train, best, compare, predict, data, summary):
    command.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imdbtune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Tracked hyperparameter search for recurrent text models on the IMDB reviews."""


def main() -> None:
    """Run the command line and exit with the code that the outcome calls for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        said = error.format_message().rstrip(".")
        sys.exit(_say(f"{said}. See imdbtune --help.", error.exit_code))
    except UserError as error:
        sys.exit(_say(str(error), 2))
    except ImdbtuneError as error:
        sys.exit(_say(str(error), 1))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_say("interrupted.", 130))
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain once more at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(message: str, code: int) -> int:
    """Say it on one line; what came may hold characters that steer terminals."""
    line = " ".join(message.splitlines())
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    typer.echo(f"imdbtune: {safe}", err=True)
    return code
