"""The registries: what can be chosen by name, and which module implements it.

Each entry is one line, ``name = "module:attribute"``. The module is imported when the entry is
first used, so that listing the names, as ``--help`` does, imports nothing. Another package adds an
entry by an entry point in the registry's group, such as ``imdbtune.cells``; a built-in name cannot
be replaced.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import TypeVar, cast

from imdbtune.errors import UserError, unknown_choice

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Implementations by name: the built-in ones, then those of other packages.

    Args:
        kind: what an entry is, in the singular, for messages.
        group: group of the entry points by which other packages add entries.
        builtin: the ``module:attribute`` of each built-in entry.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)

    @functools.cached_property
    def added(self) -> dict[str, str]:
        """The ``module:attribute`` of each entry of another package."""
        found = {point.name: point.value for point in entry_points(group=self.group)}
        return {name: found[name] for name in sorted(found) if name not in self._builtin}

    @property
    def references(self) -> dict[str, str]:
        """The ``module:attribute`` of each entry."""
        return {**self._builtin, **self.added}

    def __getitem__(self, name: str) -> T:
        """Import and return an entry.

        Raises:
            UserError: the name is unknown, or its module cannot be imported.
        """
        if name not in self.references:
            raise unknown_choice(self.kind, name, self.references)
        reference = self.references[name]
        module, _, attribute = reference.partition(":")
        try:
            return cast("T", getattr(importlib.import_module(module), attribute))
        except Exception as error:  # code of others
            if name in self._builtin:
                raise
            raise UserError(
                f"the {self.kind} {name} cannot be loaded from {reference} ({error}); correct or "
                "uninstall the package that adds it."
            ) from error

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, without importing anything."""
        return iter(self.references)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.references)

    def __contains__(self, name: object) -> bool:
        """Return whether there is an entry of this name, without importing it."""
        return name in self.references


def check_extra(entry: str, extra: str, packages: Sequence[str]) -> None:
    """Check that the packages of an optional extra are installed.

    Args:
        entry: what needs them, such as ``the format onnx``.

    Raises:
        UserError: one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{entry} needs {' and '.join(missing)}, not installed here; "
            f"install the extra: pip install 'imdbtune[{extra}]'."
        )
