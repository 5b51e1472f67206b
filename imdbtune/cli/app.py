"""The typer application; errors become one line on standard error and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress

import typer
from typer.exceptions import TyperException

from imdbtune import __version__
from imdbtune.cli import (
    best,
    compare,
    confirm,
    data,
    discard,
    dispose,
    doctor,
    interrupts,
    list_searches,
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
from imdbtune.tracking.client_environment import set_environment_defaults
from imdbtune.tracking.connection import (
    failure_reason,
    is_of_store,
    redact_secrets,
)

MAX_MESSAGE_LENGTH = 900  # characters
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
    *(search, train, reproduce, confirm, list_searches, best, compare, report, discard),
    dispose,
    *(ui, predict, data, summary, sync, doctor),
)
for command in COMMANDS:
    command.register(app)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"imdbtune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print the version and exit.",
    ),
) -> None:
    """Tracked hyperparameter search for recurrent text models on the IMDB reviews."""


def main() -> None:
    """Run the command line and exit with the code of the outcome."""
    interrupts.install()
    # MLflow sends usage data from each process unless this is set; users may still enable it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Figures are written to files; a notebook's back end may not be installed here.
    os.environ["MPLBACKEND"] = "Agg"
    set_environment_defaults()
    try:
        code = app(standalone_mode=False, prog_name="imdbtune")
        if sys.stdout is not None:  # it is None where it was closed
            sys.stdout.flush()
    except TyperException as error:
        if len(sys.argv) == 1:  # without arguments, the message is the help
            typer.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        sys.exit(_print_error(_usage_message(error), error.exit_code))
    except UserError as error:
        sys.exit(_print_error(str(error), 2))
    except ImdbtuneError as error:
        sys.exit(_print_error(str(error), 1))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_print_error("interrupted.", interrupts.exit_code()))
    except OSError as error:
        _discard_unwritable_output()
        if interrupts.is_interrupted():  # the terminal has been closed
            sys.exit(interrupts.exit_code())
        if isinstance(error, BrokenPipeError):  # the reader of the pipe has exited
            sys.exit(0)
        where = f" ({quote_path(error.filename)})" if error.filename else ""
        code = 2 if error.errno == errno.ENAMETOOLONG else 1  # the argument was not a file name
        message = f"{error.strerror or error}{where}; fix this and run the command again."
        sys.exit(_print_error(message, code))
    except MemoryError:
        sys.exit(_print_error("no memory is left; end other programs, or raise ulimit -v.", 1))
    except Exception as error:  # a bug, or an error of the store, whose text may hold a password
        if is_of_store(error):
            message = f"the tracking store cannot be used: {failure_reason(error)}"
            sys.exit(_print_error(f"{message}; repair it and run the command again.", 1))
        typer.echo(redact_secrets(traceback.format_exc()), err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _discard_unwritable_output() -> None:
    """Drop what standard output cannot take: Python would report that error again at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_message(error: TyperException) -> str:
    """Return what typer rejected, and which help to read."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    path = context.command_path if context is not None else "imdbtune"
    name = getattr(parameter, "envvar", None)
    if name and os.environ.get(name):  # typer itself rejects only boolean variables
        return f"{name} = {short_repr(os.environ[name])} is not allowed; use 1 or 0."
    return f"{error.format_message().rstrip('.')}. See {path} --help."


def _print_error(message: str, code: int) -> int:
    """Print a message on one line, shortened and without control characters; return ``code``."""

    line = escape_control(" ".join(redact_secrets(message).splitlines()))
    if len(line) > MAX_MESSAGE_LENGTH:
        line = f"{line[: MAX_MESSAGE_LENGTH // 2]} ... {line[-MAX_MESSAGE_LENGTH // 2 :]}"
    with suppress(OSError):  # the terminal is gone
        typer.echo(f"imdbtune: {line}", err=True)
    return code
