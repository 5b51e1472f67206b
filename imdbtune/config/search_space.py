"""The space that a search draws its configurations from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imdbtune.config.hyperparameters import PARAMETERS, Scalar, TrialParams


@dataclass(frozen=True)
class Dimension:
    """What a search may choose for one hyperparameter: some values, or a numeric range.

    ``when`` are conditions ``(parent, values)``: the hyperparameter is searched only in
    trials whose parent has one of these values, and keeps its default in all others.
    """

    name: str
    values: tuple[Scalar, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    sampling: str = "linear"
    when: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.values) == 1 and not self.when

    @property
    def is_int(self) -> bool:
        """Whether the hyperparameter takes whole numbers."""
        return bool(PARAMETERS[self.name].type == "int")

    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value that can come up; ``None`` if they are a continuum."""
        if self.values:
            return self.values
        assert self.low is not None
        assert self.high is not None
        if self.step is None:
            if not self.is_int:
                return None
            return tuple(range(int(self.low), int(self.high) + 1))
        found: list[float] = []
        for k in itertools.count():
            value = self.low + k * self.step
            if self.sampling == "log":
                value = self.low * self.step**k
            if value > self.high * (1 + 1e-9):
                # 0.3, not 0.30000000000000004
                return tuple(int(v) if self.is_int else float(f"{v:.12g}") for v in found)
            found.append(value)
        raise AssertionError

    def as_toml(self) -> Any:
        """The value as it would stand in a TOML file (plain Python objects)."""
        if not self.values:
            table: dict[str, Any] = {"min": self.typed(self.low), "max": self.typed(self.high)}
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
        """A bound or step as the hyperparameter's own type."""
        assert value is not None
        return int(value) if self.is_int else float(value)

    def in_words(self) -> str:
        """One line for people: ``16, 32, 64`` or ``0.0001 to 0.01 (log)``."""
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


def word(value: Scalar) -> str:
    """A value as TOML and the flags write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class SearchSpace:
    """One :class:`Dimension` for each hyperparameter that is mentioned; parents come first."""

    dimensions: tuple[Dimension, ...] = ()

    @property
    def searched(self) -> tuple[Dimension, ...]:
        """The dimensions with something to choose."""
        return tuple(d for d in self.dimensions if not d.is_constant)

    @property
    def constants(self) -> dict[str, Scalar]:
        """The hyperparameters that the space fixes."""
        return {d.name: d.values[0] for d in self.dimensions if d.is_constant}

    def params(self, values: Mapping[str, Any]) -> TrialParams:
        """The configuration for the values an oracle chose (its own ``tuner/`` keys ignored)."""
        chosen = {k: v for k, v in values.items() if not k.startswith("tuner/")}
        for dimension in self.searched:
            if dimension.name in chosen:
                # Keras Tuner makes numbers of true and false, which equal them.
                value = chosen[dimension.name]
                chosen[dimension.name] = next((v for v in dimension.values if v == value), value)
        return TrialParams.from_values({**self.constants, **chosen})

    def single(self) -> TrialParams | None:
        """The only configuration of a space in which nothing is searched, else ``None``."""
        return None if self.searched else self.params({})

    def size(self) -> int | None:
        """How many configurations the space has; ``None`` if a range is continuous."""
        if any(d.grid() is None for d in self.searched):
            return None
        # Only the values of parents matter to conditions; all else multiplies.
        parents = {parent for d in self.dimensions for parent, _ in d.when}
        others = [d for d in self.dimensions if d.name not in parents]
        return sum(
            count * math.prod(len(d.grid() or ()) for d in others if _is_active(d, chosen))
            for chosen, count in self._parent_values(
                [d for d in self.dimensions if d.name in parents]
            )
        )

    def _parent_values(
        self, parents: Sequence[Dimension]
    ) -> Iterator[tuple[dict[str, Scalar], int]]:
        """Values of the parents, and how many there are that conditions do not tell from them."""
        chosen: dict[str, Scalar] = {}

        def walk(rest: Sequence[Dimension], count: int) -> Iterator[tuple[dict[str, Scalar], int]]:
            if not rest:
                yield dict(chosen), count
            elif not _is_active(rest[0], chosen):
                yield from walk(rest[1:], count)
            else:
                for value, alike in self._kinds(rest[0]):
                    chosen[rest[0].name] = value
                    yield from walk(rest[1:], count * alike)
                del chosen[rest[0].name]

        return walk(parents, 1)

    def _kinds(self, parent: Dimension) -> Iterator[tuple[Scalar, int]]:
        """One value of each kind that the conditions tell apart, with the number of its kind."""
        asked = [
            set(values) for d in self.dimensions for name, values in d.when if name == parent.name
        ]
        kinds: dict[tuple[bool, ...], list[Scalar]] = {}
        for value in parent.grid() or ():
            kinds.setdefault(tuple(value in values for values in asked), []).append(value)
        return ((values[0], len(values)) for values in kinds.values())

    def as_toml(self) -> dict[str, Any]:
        """The ``[space]`` table that describes this space."""
        return {d.name: d.as_toml() for d in self.dimensions}


def _is_active(dimension: Dimension, chosen: Mapping[str, Scalar]) -> bool:
    return all(chosen.get(parent) in values for parent, values in dimension.when)
