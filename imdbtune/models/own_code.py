"""Run the source of a user's own function; errors that it causes name its file and line."""

from __future__ import annotations

import functools
import linecache
import traceback
import types
from typing import Any

from imdbtune.config.own_source import OwnSource
from imdbtune.errors import UserError, first_line


@functools.lru_cache(maxsize=16)
def load_module(file: str, text: str) -> types.ModuleType:
    """Return the module of a source; it is run once in a process.

    Args:
        file: its name, which tracebacks show.
        text: the source.

    Raises:
        UserError: it has a syntax error, or raises.
    """
    module = types.ModuleType(file.removesuffix(".py"))
    module.__file__ = file
    # Tracebacks show the lines also where there is no such file.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    try:
        exec(compile(text, file, "exec"), vars(module))  # the user's own code
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: {error.msg}.") from error
    except (Exception, SystemExit) as error:
        raise error_in(file, error, "importing the file raises") from error
    return module


def error_in(file: str, error: BaseException, what: str, otherwise: str = "") -> UserError:
    """Return an error as one line that begins with the last line of the user's file in it.

    Args:
        otherwise: the place to name if no line of that file raised it; empty: the file.
    """
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    where = f"{file}:{lines[-1]}" if lines else otherwise or file
    return UserError(f"{where}: {what} {type(error).__name__}: {first_line(error)}.")


def find_attribute(source: OwnSource) -> Any:
    """Return what a source defines under the name of its function.

    Raises:
        UserError: the source cannot be run, or has no such name.
    """
    module = load_module(source.file, source.text)
    if source.function not in vars(module):
        known = [n for n, v in vars(module).items() if callable(v) and is_of(v, module)]
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(f"{source.file} has no function {source.function}; {has}.")
    return vars(module)[source.function]


def is_of(value: object, module: types.ModuleType) -> bool:
    """Return whether a value was defined in a module."""
    return getattr(value, "__module__", "") == module.__name__
