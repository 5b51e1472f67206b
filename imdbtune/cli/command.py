"""What all commands have: flags from the environment, completion, and how much is said."""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ArgumentInfo, OptionInfo

from imdbtune import __version__
from imdbtune.cli import options as opt
from imdbtune.cli.completion import completer
from imdbtune.cli.library_output import set_library_output
from imdbtune.errors import UserError, escape_control, short_repr
from imdbtune.tracking.connection import hide_secrets, resolve_uri

EXIT_CODES = "Exit codes: 0 done, 1 ended without success, 2 wrong input, 130 interrupted."
COMMON = (("quiet", opt.Quiet), ("verbose", opt.Verbose))
Function = Callable[..., Any]


class Commands(typer.Typer):
    """A typer application whose commands are :func:`equipped`."""

    def command(  # type: ignore[override]  # what is not named here is handed on
        self, name: str | None = None, **settings: Any
    ) -> Callable[[Function], Function]:
        """As typer's."""

        def register(function: Function) -> Function:
            called = (name or function.__name__).replace("_", "-")
            settings["help"] = laid_out(settings["help"])
            settings["epilog"] = (
                f"{EXIT_CODES} Flags can come from the environment: {variable(called, '--json')}=1 "
                "is --json."
            )
            super(Commands, self).command(name, **settings)(equipped(function, called))
            return function

        return register


def variable(command: str, flag: str) -> str:
    """The environment variable that sets a flag: ``IMDBTUNE_SEARCH_MAX_TRIALS``."""
    return f"IMDBTUNE_{command}_{flag.removeprefix('--')}".replace("-", "_").upper()


def laid_out(text: str) -> str:
    """A help text whose examples stand below each other, each as it would be typed."""
    about, _, examples = text.partition("Examples:\n")
    lines = [line for line in examples.splitlines() if line.strip()]
    return "\n".join([f"{about}\b", "Examples:", *lines])


def equipped(function: Function, name: str) -> Function:
    """A command's function for typer, with what all commands have.

    Each flag gets its environment variable and its completion; ``--quiet`` and ``--verbose`` are
    added unless the function has a parameter of that name. Wrong input out of a variable is
    answered with the variable's name.
    """
    own = inspect.signature(function, eval_str=True)
    known = {key: _known(name, key, parameter) for key, parameter in own.parameters.items()}
    kind = inspect.Parameter.KEYWORD_ONLY
    for key, annotation in COMMON:
        if key not in known:
            added = inspect.Parameter(key, kind, default=False, annotation=annotation)
            known[key] = _known(name, key, added)
    context = inspect.Parameter("ctx", kind, annotation=typer.Context)

    def call(ctx: typer.Context, **given: Any) -> None:
        if given["quiet"] and given["verbose"]:
            raise UserError("--quiet and --verbose both came; give one of the two.")
        with set_library_output(given["verbose"]):
            if given["verbose"]:
                _say_where(ctx)
            try:
                function(**{key: given[key] for key in own.parameters})
            except UserError as error:
                raise UserError(f"{error}{blamed(str(error), from_environment(ctx))}") from error
            except KeyboardInterrupt as error:  # typer would end without a word
                raise typer.Abort from error

    call.__name__, call.__module__ = function.__name__, function.__module__
    call.__annotations__ = {}
    call.__signature__ = inspect.Signature([*known.values(), context])  # type: ignore[attr-defined]
    return call


def _known(command: str, key: str, parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter, with variable and completion."""
    assert get_origin(parameter.annotation) is Annotated, f"{command}: {key} has no typer.Option"
    kind, told = get_args(parameter.annotation)
    info: OptionInfo | ArgumentInfo = copy.copy(told)
    if isinstance(info, OptionInfo):
        flag = str(info.default).partition("/")[0]
        info.envvar, info.show_envvar = variable(command, flag), False
    else:
        flag = info.metavar or key.upper()
    info.autocompletion = completer(flag)
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info])


def from_environment(ctx: typer.Context) -> dict[str, str]:
    """The variables that have set flags of this call, with their values."""
    found = {}
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "ENVIRONMENT":
            found[str(parameter.envvar)] = os.environ[str(parameter.envvar)]
    return found


def blamed(message: str, variables: dict[str, str]) -> str:
    """Which variables a message is about: those whose value it has, else all."""
    named = [name for name, value in variables.items() if short_repr(value) in message]
    return f" Set in the environment: {', '.join(named or variables)}." if variables else ""


def _say_where(ctx: typer.Context) -> None:
    """What is called, and where it reads and writes, on standard error."""
    from imdbtune.data.sources import default_cache

    flags = ", ".join(from_environment(ctx)) or "none"
    try:
        store = hide_secrets(resolve_uri(ctx.params.get("tracking_uri", "")))
    except UserError as error:
        store = str(error)
    lines = (
        f"imdbtune {__version__}, Python {sys.version.split()[0]}, in {Path.cwd()}",
        f"flags from the environment: {flags}",
        f"tracking store: {store}",
        f"cache: {ctx.params.get('cache') or default_cache()}",
    )
    for line in lines:
        typer.echo(escape_control(line), err=True)
