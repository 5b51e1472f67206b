"""The space that a search draws its configurations from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import PARAMETERS, Scalar, TrialParams, same_model

if TYPE_CHECKING:
    from imdbtune.config.own_model import OwnModel


@dataclass(frozen=True)
class Dimension:
    """The search range of one hyperparameter: listed values, or a numeric range.

    ``when`` are conditions ``(parent, values)``: the hyperparameter is searched only in
    trials whose parent has one of these values, and has its default in all others.
    ``kind`` is the type of a hyperparameter of an own model; empty: it is one of ours.
    """

    name: str
    values: tuple[Scalar, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    sampling: str = "linear"
    when: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    kind: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether it has exactly one value."""
        return len(self.values) == 1 and not self.when

    @property
    def is_int(self) -> bool:
        """Whether the hyperparameter takes whole numbers."""
        return (self.kind or PARAMETERS[self.name].type) == "int"

    def is_active(self, chosen: Mapping[str, object]) -> bool:
        """Return whether ``chosen``, values by name, meets the conditions."""
        return all(chosen.get(parent) in values for parent, values in self.when)

    def __contains__(self, value: object) -> bool:
        """Return whether the range or list has this value."""
        values = self.grid()
        if values is not None:
            return value in values
        assert self.low is not None
        assert self.high is not None
        return isinstance(value, int | float) and self.low <= value <= self.high

    def grid(self) -> tuple[Scalar, ...] | None:
        """Return all possible values; ``None`` for a continuous range."""
        if self.values:
            return self.values
        assert self.low is not None
        assert self.high is not None
        if self.step is None:
            if not self.is_int:
                return None
            return tuple(range(int(self.low), int(self.high) + 1))
        values: list[float] = []
        for k in itertools.count():
            value = self.low + k * self.step
            if self.sampling == "log":
                value = self.low * self.step**k
            if value > self.high * (1 + 1e-9):
                # 0.3, not 0.30000000000000004
                return tuple(int(v) if self.is_int else float(f"{v:.12g}") for v in values)
            values.append(value)
        raise AssertionError

    def as_toml(self) -> object:
        """Return the plain Python value that a TOML file would have for this dimension."""
        if not self.values:
            table: dict[str, object] = {"min": self.typed(self.low), "max": self.typed(self.high)}
            if self.step is not None:
                table["step"] = self.typed(self.step)
            if self.sampling != "linear":
                table["sampling"] = self.sampling
        elif self.when:
            table = {"values": list(self.values)}
        else:
            return self.values[0] if len(self.values) == 1 else list(self.values)
        if self.when:
            table["when"] = {parent: list(values) for parent, values in self.when}
        return table

    def typed(self, value: float | None) -> Scalar:
        """Return a bound or step as the hyperparameter's type."""
        assert value is not None
        return int(value) if self.is_int else float(value)

    def in_words(self) -> str:
        """Return one readable line: ``16, 32, 64`` or ``0.0001 to 0.01 (log)``."""
        text = ", ".join(word(v) for v in self.values)
        if not self.values:
            text = f"{self.typed(self.low)} to {self.typed(self.high)}"
            by = {"log": "times ", "linear": "by "}[self.sampling] if self.step else ""
            notes = [by + str(self.typed(self.step))] if self.step else []
            if self.sampling == "log" and not self.step:
                notes.append("log")
            text += f" ({', '.join(notes)})" if notes else ""
        for parent, values in self.when:
            text += f", when {parent} is {' or '.join(map(word, values))}"
        return text


def word(value: object) -> str:
    """Return a value as TOML and the flags write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class SearchSpace:
    """One :class:`Dimension` for each hyperparameter in the space; parents come first."""

    dimensions: tuple[Dimension, ...] = ()
    own: OwnModel | None = None  # a model of the user's own, whose hyperparameters it has

    @property
    def parameters(self) -> Mapping[str, Field[object]]:
        """All hyperparameters that a configuration has, with their limits."""
        return self.own.parameters if self.own else PARAMETERS

    @property
    def searched(self) -> tuple[Dimension, ...]:
        """The dimensions that are not constant."""
        return tuple(d for d in self.dimensions if not d.is_constant)

    @property
    def varied(self) -> list[str]:
        """The names of the searched dimensions, or one: the columns of a search's page."""
        return [d.name for d in self.searched] or ["maxlen" if self.own else "rnn"]

    @property
    def constants(self) -> dict[str, Scalar]:
        """The hyperparameters with a fixed value."""
        return {d.name: d.values[0] for d in self.dimensions if d.is_constant}

    def params(self, values: Mapping[str, object]) -> TrialParams:
        """Return the configuration for suggested values; Keras Tuner's ``tuner/`` keys are ignored.

        Raises:
            UserError: a name is unknown, or a value is outside its limits.
        """
        suggested = {k: v for k, v in values.items() if not k.startswith("tuner/")}
        for dimension in self.searched:
            if dimension.name in suggested:
                # Keras Tuner turns true and false into the numbers that equal them.
                value = suggested[dimension.name]
                suggested[dimension.name] = next((v for v in dimension.values if v == value), value)
        make = self.own.params if self.own else TrialParams.from_values
        return make({**self.constants, **suggested})

    def values_of(self, params: TrialParams) -> dict[str, Scalar] | None:
        """Return the values of the searched dimensions that give ``params``.

        They are those that :meth:`params` takes; ``None`` if ``params`` is not in the space.
        """
        given, default = params.as_dict(), self.params({})
        if not same_model(params, default):
            return None
        active = {d.name: d for d in self.searched if d.is_active(given)}
        expected = {**default.as_dict(), **self.constants}
        for name, value in given.items():
            if value != expected.get(name) if name not in active else value not in active[name]:
                return None
        return {name: given[name] for name in active}

    def single(self) -> TrialParams | None:
        """Return the only configuration of a space without a searched dimension, else ``None``."""
        return None if self.searched else self.params({})

    def size(self) -> int | None:
        """Return the number of configurations; ``None`` if a range is continuous."""
        if any(d.grid() is None for d in self.searched):
            return None
        # Conditions depend only on the values of parents; all other sizes multiply.
        names = {parent for d in self.dimensions for parent, _ in d.when}
        parents = [d for d in self.dimensions if d.name in names]
        others = [d for d in self.dimensions if d.name not in names]
        return sum(
            count * math.prod(len(d.grid() or ()) for d in others if d.is_active(chosen))
            for chosen, count in self._parent_values(parents)
        )

    def _parent_values(
        self, parents: Sequence[Dimension]
    ) -> Iterator[tuple[dict[str, Scalar], int]]:
        """Yield one combination of parent values per equivalence class, and the class's size.

        Combinations are equivalent if they meet the same conditions.
        """
        combinations: list[tuple[dict[str, Scalar], int]] = [({}, 1)]
        for parent in parents:
            classes = self._equivalence_classes(parent)
            combinations = [
                extended
                for chosen, count in combinations
                for extended in (
                    [({**chosen, parent.name: value}, count * size) for value, size in classes]
                    if parent.is_active(chosen)
                    else [(chosen, count)]
                )
            ]
        return iter(combinations)

    def _equivalence_classes(self, parent: Dimension) -> list[tuple[Scalar, int]]:
        """Return one value of each set of values that meet the same conditions, and its size."""
        conditions = [
            set(values) for d in self.dimensions for name, values in d.when if name == parent.name
        ]
        classes: dict[tuple[bool, ...], list[Scalar]] = {}
        for value in parent.grid() or ():
            classes.setdefault(tuple(value in values for values in conditions), []).append(value)
        return [(values[0], len(values)) for values in classes.values()]

    def as_toml(self) -> dict[str, object]:
        """Return the ``[space]`` table of this space."""
        return {d.name: d.as_toml() for d in self.dimensions}
