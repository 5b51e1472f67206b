"""The source of a model that is given as a function or class of Python, not as a file.

That of an importable module is its file. That of a script or notebook would start the search again,
so that it is written anew: the function, what it uses of its own module, and the imports of all
else.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import linecache
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.config.own_model import ModelSource
from imdbtune.errors import UserError, short_repr
from imdbtune.files import read_small_text

if TYPE_CHECKING:
    import keras_tuner

    # Any of them, or the text FILE.py:FUNCTION.
    HyperModel = keras_tuner.HyperModel
    Build = Callable[[keras_tuner.HyperParameters], object]
    BuildsModel = Build | HyperModel | type[HyperModel] | str

Definition = types.FunctionType | type[Any]


def source_of(model: object) -> tuple[ModelSource, str]:
    """Return the source of a model, and the path of its file; empty: it is of a script or notebook.

    Args:
        model: a function ``build(hp)``, a class of Keras Tuner's ``HyperModel``, or an object of
            one that needs no arguments.

    Raises:
        UserError: it is something else, or its source cannot be had or does not stand by itself.
    """
    import keras_tuner

    if isinstance(model, keras_tuner.HyperModel):
        model = _class_of(model)
    is_class = inspect.isclass(model) and issubclass(model, keras_tuner.HyperModel)
    if not (is_class or inspect.isfunction(model)):
        raise UserError(
            f"model = {short_repr(model)} is neither a function build(hp) nor a class of Keras "
            "Tuner's HyperModel, nor the text FILE.py:FUNCTION."
        )
    found: Definition = model  # type: ignore[assignment]
    path = _file_of(found)
    if path is not None:
        return ModelSource(path.name, found.__name__, read_small_text(path)), str(path)
    written = _Writer(found.__module__, found.__name__)
    written.add(found.__name__, found)
    return ModelSource(f"{found.__name__}.py", found.__name__, written.text()), ""


def _class_of(model: keras_tuner.HyperModel) -> type[Any]:
    """Return the class of an object that is as one made without arguments."""
    kind = type(model)
    try:
        fresh = kind()
    except TypeError as error:
        raise UserError(
            f"{kind.__name__} is made with arguments, which its source does not show; {_hint()}"
        ) from error

    def values(each: object) -> dict[str, object]:
        return {k: v for k, v in vars(each).items() if not callable(v)}

    if values(fresh) != values(model):
        raise UserError(
            f"the object of {kind.__name__} has other values than {kind.__name__}(), which its "
            f"source does not show; {_hint()}"
        )
    return kind


def _hint(name: str = "build") -> str:
    return f'write it to a file, and give "FILE.py:{name}".'


def _file_of(found: Definition) -> Path | None:
    """Return the file of the module in which a definition stands at the top, if it is no script."""
    module = sys.modules.get(found.__module__)
    path = Path(getattr(module, "__file__", None) or "")
    is_script = found.__module__ == "__main__" or path.suffix != ".py"
    stands_there = vars(module).get(found.__name__) is found if module else False
    return path if stands_there and not is_script and path.stem.isidentifier() else None


@dataclass
class _Writer:
    """Writes a definition and all that it uses.

    Args:
        module: name of the module whose definitions are written; those of others are imported.
        function: what the source is of, for messages.
    """

    module: str
    function: str
    imports: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)  # in the order in which they are needed
    _visited: set[str] = field(default_factory=set)

    def text(self) -> str:
        """Return the whole source."""
        head = ["\n".join(self.imports.values())] if self.imports else []
        return "\n\n\n".join([*head, *self.parts.values()]) + "\n"

    def add(self, name: str, value: object) -> None:
        """Add what a name stands for, after all that it uses itself."""
        if name in self._visited:
            return
        self._visited.add(name)
        if inspect.ismodule(value):
            self.imports[name] = self._import_module(name, value)
        elif isinstance(value, type | types.FunctionType) and value.__module__ == self.module:
            self._define(name, value)
        elif _is_literal(value):
            self.parts[name] = f"{name} = {value!r}"
        else:
            self.imports[name] = self._import_from(name, value)

    def _define(self, name: str, value: Definition) -> None:
        self._check_closed(value)
        text = textwrap.dedent(self._source(value)).rstrip()
        known = _globals(value)
        for used in _global_names(text):
            if used in known and used != value.__name__:
                self.add(used, known[used])
        alias = f"\n\n\n{name} = {value.__name__}" if value.__name__ != name else ""
        self.parts[name] = text + alias

    def _check_closed(self, value: Definition) -> None:
        if value.__name__ == "<lambda>":
            raise self._refusal(f"{self.function} uses a lambda, which has no source of its own")
        free = sorted({n for each in _functions(value) for n in each.__code__.co_freevars})
        free = [name for name in free if name != "__class__"]
        if free:
            raise self._refusal(
                f"{value.__name__} closes over {', '.join(free)}, which its source does not show"
            )

    def _source(self, value: Definition) -> str:
        try:
            return inspect.getsource(value)
        except (OSError, TypeError):  # classes of notebooks, before Python 3.13
            for function in _functions(value):
                if text := _class_around(function, value.__name__):
                    return text
        raise self._refusal(f"the source of {value.__name__} cannot be had")

    def _import_module(self, name: str, module: types.ModuleType) -> str:
        path = module.__name__
        if sys.modules.get(path) is not module or path == "__main__":
            raise self._refusal(f"{self.function} uses {name}, a module that cannot be imported")
        return f"import {path}" if path == name else f"import {path} as {name}"

    def _import_from(self, name: str, value: object) -> str:
        path, own = getattr(value, "__module__", None), getattr(value, "__name__", "")
        module = sys.modules.get(path) if isinstance(path, str) else None
        if module is None or path == self.module or vars(module).get(own) is not value:
            raise self._refusal(
                f"{self.function} uses {name}, a {type(value).__name__} that the source of "
                f"{self.function} does not show"
            )
        return f"from {path} import {own}" + (f" as {name}" if own != name else "")

    def _refusal(self, reason: str) -> UserError:
        name = self.function if self.function.isidentifier() else "build"
        return UserError(f"{reason}; {_hint(name)}")


def _functions(value: Definition) -> Iterator[types.FunctionType]:
    """Yield a function, or the methods of a class."""
    members = vars(value).values() if inspect.isclass(value) else [value]
    for member in members:
        function = inspect.unwrap(getattr(member, "__func__", member))
        if inspect.isfunction(function):
            yield function


def _class_around(function: types.FunctionType, name: str) -> str:
    """Return the source of the class of a method; empty if it cannot be had."""
    code = function.__code__
    lines = linecache.getlines(code.co_filename)
    for node in ast.walk(ast.parse("".join(lines))):
        if not (isinstance(node, ast.ClassDef) and node.name == name):
            continue
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        if first <= code.co_firstlineno <= (node.end_lineno or 0):
            return "".join(lines[first - 1 : node.end_lineno])
    return ""


def _globals(value: Definition) -> Mapping[str, Any]:
    """Return the global names that a definition sees, without those of Python itself."""
    if inspect.isfunction(value):
        found = value.__globals__
    else:
        found = vars(importlib.import_module(value.__module__))
    return {k: v for k, v in found.items() if k not in vars(builtins) or k.startswith("__")}


def _global_names(text: str) -> Iterator[str]:
    """Yield the global names that a source uses, in their order."""
    names: set[str] = set()

    def collect(table: symtable.SymbolTable, is_top: bool) -> None:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (is_top or symbol.is_global()):
                names.add(symbol.get_name())
        for child in table.get_children():
            collect(child, is_top=False)

    collect(symtable.symtable(text, "model", "exec"), is_top=True)
    yield from sorted(names)


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return False
