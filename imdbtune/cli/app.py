"""The typer application, and how errors become one line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback

import typer
from typer.exceptions import TyperException

from imdbtune import __version__
from imdbtune.cli import (
    best,
    compare,
    confirm,
    data,
    doctor,
    predict,
    report,
    reproduce,
    search,
    summary,
    sync,
    train,
    ui,
)
from imdbtune.cli.command import EXIT_CODES, Commands
from imdbtune.errors import ImdbtuneError, UserError, escape_control, quote_path, short_repr
from imdbtune.tracking.connection import redact_secrets, set_environment_defaults

LONGEST = 900  # characters of a message
app = Commands(
    name="imdbtune",
    help="Tracked hyperparameter search for recurrent text models on the IMDB reviews.",
    epilog=f"{EXIT_CODES} Each command has --help with examples.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    *(search, train, reproduce, confirm, best, compare, report),
    *(ui, predict, data, summary, sync, doctor),
)
for command in COMMANDS:
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
    signal.signal(signal.SIGTERM, _interrupt)
    # MLflow would tell its makers what it is used for, from each process; asked for, it does.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    set_environment_defaults()
    try:
        code = app(standalone_mode=False, prog_name="imdbtune")
        if sys.stdout is not None:  # it is None where it was closed
            sys.stdout.flush()
    except TyperException as error:
        if len(sys.argv) == 1:  # the message is the help
            typer.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        sys.exit(_say(_usage_message(error), error.exit_code))
    except UserError as error:
        sys.exit(_say(str(error), 2))
    except ImdbtuneError as error:
        sys.exit(_say(str(error), 1))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_say("interrupted.", 130))
    except OSError as error:
        if sys.stdout is not None:  # Python would complain once more at its own end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has gone
            sys.exit(0)
        where = f" ({quote_path(error.filename)})" if error.filename else ""
        code = 2 if error.errno == errno.ENAMETOOLONG else 1  # what came was no name of a file
        sys.exit(_say(f"{error.strerror or error}{where}; mend that and run again.", code))
    except Exception:  # a fault of ours, or of a library that quotes a URI with its password
        typer.echo(redact_secrets(traceback.format_exc()), err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _usage_message(error: TyperException) -> str:
    """What typer found wrong, and where to read on."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    path = context.command_path if context is not None else "imdbtune"
    name = getattr(parameter, "envvar", None)
    if name and os.environ.get(name):  # typer reads nothing else but flags that are on or off
        return f"{name} = {short_repr(os.environ[name])} is not allowed; it is 1 or 0."
    return f"{error.format_message().rstrip('.')}. See {path} --help."


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(message: str, code: int) -> int:
    """Say it on one line; what came may be long, or hold characters that steer terminals."""
    line = escape_control(" ".join(redact_secrets(message).splitlines()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    typer.echo(f"imdbtune: {line}", err=True)
    return code
