"""What all commands share: environment variables of flags, completion, ``-q`` and ``-v``."""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo, OptionInfo

from imdbtune import __version__
from imdbtune.cli import options as opt
from imdbtune.cli.completion import make_completer
from imdbtune.cli.config_flags import OUTPUT, PANELS, ConfigFlags
from imdbtune.cli.library_output import set_library_output
from imdbtune.errors import NotInStore, UserError, escape_control, short_repr
from imdbtune.tracking.connection import hide_secrets, resolve_uri

EXIT_CODES = "Exit codes: 0 success, 1 failure, 2 invalid input, 129 hangup, 130 interrupted."
COMMON_FLAGS = (("quiet", opt.Quiet), ("verbose", opt.Verbose))
Command = Callable[..., None]


class Commands(typer.Typer):
    """A typer application that applies :func:`add_common_options` to its commands."""

    def command(  # type: ignore[override]  # all other arguments are passed on
        self, name: str | None = None, **settings: Any
    ) -> Callable[[Command], Command]:
        """Register a command, as typer does."""

        def register(function: Command) -> Command:
            command_name = (name or function.__name__).replace("_", "-")
            settings["help"] = format_help(settings["help"])
            variable = environment_variable(command_name, "--json")
            settings["epilog"] = (
                f"{EXIT_CODES} Environment variables set flags: {variable}=1 is --json."
            )
            command = add_common_options(function, command_name)
            super(Commands, self).command(name, **settings)(command)
            return function

        return register


def environment_variable(command: str, flag: str) -> str:
    """Return the environment variable that sets a flag, as ``IMDBTUNE_SEARCH_MAX_TRIALS``."""
    return f"IMDBTUNE_{command}_{flag.removeprefix('--')}".replace("-", "_").upper()


def format_help(text: str) -> str:
    """Return a help text with one example a line, so that typer does not wrap them."""
    description, _, examples = text.partition("Examples:\n")
    lines = [line for line in examples.splitlines() if line.strip()]
    return "\n".join([f"{description}\b", "Examples:", *lines])


def add_common_options(function: Command, name: str) -> Command:
    """Return a command's function for typer, with what all commands share.

    Each flag gets its environment variable and its completion; ``--quiet`` and ``--verbose`` are
    added unless the function has a parameter of that name. A parameter of :class:`ConfigFlags`
    stands for all its flags. Error messages name the variables that have set flags.
    """
    own = inspect.signature(function, eval_str=True)
    parameters, merged = _expand(own.parameters.values())
    parameters = {key: _with_variable(name, key, each) for key, each in parameters.items()}
    kind = inspect.Parameter.KEYWORD_ONLY
    for key, annotation in COMMON_FLAGS:
        if key not in parameters:
            added = inspect.Parameter(key, kind, default=False, annotation=annotation)
            parameters[key] = _with_variable(name, key, added)
    context = inspect.Parameter("ctx", kind, annotation=typer.Context)

    def call(ctx: typer.Context, **values: Any) -> None:
        if values["quiet"] and values["verbose"]:
            raise opt.mutually_exclusive("--quiet", "--verbose")
        with set_library_output(values["verbose"]):
            if values["verbose"]:
                _print_context(ctx)
            try:
                overrides = {key: flags.overrides(values) for key, flags in merged.items()}
                function(**{key: (values | overrides)[key] for key in own.parameters})
            except UserError as error:
                variables = mention_variables(str(error), flags_from_environment(ctx))
                remedy = _explain_missing(error, values) if isinstance(error, NotInStore) else ""
                raise UserError(f"{error}{remedy}{variables}") from error
            except KeyboardInterrupt as error:  # typer would exit without a message
                raise typer.Abort from error

    call.__name__, call.__module__ = function.__name__, function.__module__
    call.__annotations__ = {}
    call.__signature__ = inspect.Signature([*parameters.values(), context])  # type: ignore[attr-defined]
    return call


def _expand(
    own: Iterable[inspect.Parameter],
) -> tuple[dict[str, inspect.Parameter], dict[str, ConfigFlags]]:
    """Return a command's parameters, flags of the configuration each by itself, and their sets."""
    parameters: dict[str, inspect.Parameter] = {}
    merged: dict[str, ConfigFlags] = {}
    for each in own:
        declared = get_args(each.annotation)[-1:]
        if declared and isinstance(declared[0], ConfigFlags):
            merged[each.name] = declared[0]
            parameters |= {flag.name: flag for flag in declared[0].parameters()}
        else:
            parameters[each.name] = each
    return parameters, merged


class GroupedCommand(TyperCommand):
    """A command whose help lists its flags in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # their types are private
        """Write the arguments, then the flags of each group."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        sections |= {panel: [] for panel in PANELS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                sections["Arguments" if is_argument else panel_of(parameter)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def panel_of(option: Any) -> str:
    """Return the group of a flag in the help."""
    return str(getattr(option, "rich_help_panel", None) or OUTPUT)


def _with_variable(command: str, key: str, parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter with its environment variable and its completion."""
    assert get_origin(parameter.annotation) is Annotated, f"{command}: {key} has no typer.Option"
    kind, declared = get_args(parameter.annotation)
    info: OptionInfo | ArgumentInfo = copy.copy(declared)
    if isinstance(info, OptionInfo):
        flag = str(info.default).partition("/")[0]
        info.envvar, info.show_envvar = environment_variable(command, flag), False
    else:
        flag = info.metavar or key.upper()
    info.autocompletion = make_completer(flag)
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info])


def flags_from_environment(ctx: typer.Context) -> dict[str, str]:
    """Return the environment variables that set flags of this call, with their values."""
    found = {}
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "ENVIRONMENT":
            found[str(parameter.envvar)] = os.environ[str(parameter.envvar)]
    return found


def mention_variables(message: str, variables: dict[str, str]) -> str:
    """Return a sentence with the variables whose values a message quotes, else with all."""
    quoted = [name for name, value in variables.items() if short_repr(value) in message]
    return f" Set in the environment: {', '.join(quoted or variables)}." if variables else ""


def _explain_missing(error: NotInStore, values: dict[str, Any]) -> str:
    """Return how to bring back a search of this folder that the store has lost; or nothing."""
    from imdbtune.search.sync import explain_missing

    return explain_missing(Path(".imdbtune").absolute(), error, values.get("tracking_uri") or "")


def _print_context(ctx: typer.Context) -> None:
    """Print versions, folders and the tracking store on standard error."""
    from imdbtune.data.sources import default_cache

    flags = ", ".join(flags_from_environment(ctx)) or "none"
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
