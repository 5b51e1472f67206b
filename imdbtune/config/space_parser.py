"""Reads spaces as people write them: a TOML ``[space]`` table or flags such as ``16-128:x2``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imdbtune.config.hyperparameters import PARAMETERS, Scalar, allowed, check_value, convert
from imdbtune.config.search_space import Dimension, SearchSpace, word
from imdbtune.errors import UserError, short_repr, unknown_choice


def parse_space(table: Mapping[str, Any]) -> SearchSpace:
    """A space from a ``[space]`` table: constants, lists, ``{min, max, step, sampling}``,
    ``{values}``, the last two with ``when``; text is read as on the command line.

    Raises:
        UserError: unknown key, empty range, impossible value, or a broken condition.
    """
    dimensions = {name: _parse_dimension(name, value) for name, value in table.items()}
    return SearchSpace(tuple(_parents_first(dimensions)))


def _parse_dimension(name: str, value: Any) -> Dimension:
    if name not in PARAMETERS:
        raise unknown_choice("hyperparameter", name, PARAMETERS)
    if isinstance(value, str):
        return parse_flag(name, value)
    if isinstance(value, Mapping):
        return _parse_table(name, value)
    return _choice(name, value if isinstance(value, (list, tuple)) else [value], {})


def _choice(name: str, values: Sequence[object], when: object) -> Dimension:
    if not values:
        raise UserError(
            f"{name} = [] has nothing to choose; {name} is {allowed(PARAMETERS[name])}."
        )
    checked = tuple(check_value(name, v) for v in values)
    if len(set(checked)) != len(checked):
        raise UserError(f"{name} = {short_repr(list(values))} names a value twice; name each once.")
    return Dimension(name, values=checked, when=_parse_when(name, when))


MOST_VALUES = 100_000  # of a range in steps
TABLE_KEYS = ("min", "max", "step", "sampling", "values", "when")


def _parse_table(name: str, table: Mapping[str, Any]) -> Dimension:
    for key in table:
        if key not in TABLE_KEYS:
            raise unknown_choice(f"key in {name}", key, TABLE_KEYS)
    when = table.get("when", {})
    if "values" in table:
        if set(table) - {"values", "when"}:
            raise UserError(f"{name} has both values and a range; give one of the two.")
        values = table["values"]
        return _choice(name, values if isinstance(values, (list, tuple)) else [values], when)
    if "min" not in table or "max" not in table:
        raise UserError(f"{name} = {short_repr(dict(table))} is no range; give both min and max.")
    return _range(name, table["min"], table["max"], table.get("step"), table.get("sampling"), when)


def _range(name: str, low: Any, high: Any, step: Any, sampling: Any, when: object) -> Dimension:
    if PARAMETERS[name].type not in ("int", "float"):
        raise UserError(
            f"{name} cannot be a range; {name} is {allowed(PARAMETERS[name])}: list the values."
        )
    first, last = float(check_value(name, low)), float(check_value(name, high))
    sampling = "linear" if sampling is None else sampling
    if sampling not in ("linear", "log"):
        raise unknown_choice(f"sampling of {name}", sampling, ("linear", "log"))
    if first >= last:
        raise UserError(f"{name} = {low} to {high} is an empty range; min must be below max.")
    if sampling == "log" and first <= 0:
        raise UserError(f"{name} = {low} to {high} cannot be sampled as log; min must be above 0.")
    _check_step(name, step, sampling, last - first)
    _check_count(name, first, last, step, sampling)
    return Dimension(
        name,
        low=first,
        high=last,
        step=None if step is None else float(step),
        sampling=str(sampling),
        when=_parse_when(name, when),
    )


def _check_step(name: str, step: Any, sampling: str, width: float) -> None:
    if step is None:
        return
    is_int = PARAMETERS[name].type == "int"
    number = convert("int" if is_int else "float", step)
    least = 1 if sampling == "log" else 0
    if number is None or float(number) <= least or (sampling == "linear" and float(number) > width):
        kind = "a whole number" if is_int else "a number"
        limit = "above 1 (each value times the step)" if least else f"above 0, at most {width:g}"
        raise UserError(
            f"step = {short_repr(step)} of {name} is not allowed; it is {kind} {limit}."
        )


def _check_count(name: str, first: float, last: float, step: Any, sampling: str) -> None:
    """Grids are listed in memory; a step such as 1e-300 would never come to the end."""
    if step is None:
        return
    if sampling == "log":
        count = math.log(last / first) / math.log(float(step))
    else:
        count = (last - first) / float(step)
    if count > MOST_VALUES:
        raise UserError(
            f"step = {short_repr(step)} of {name} makes {count:.3g} values, "
            f"more than {MOST_VALUES:,}; "
            "take a larger step, or none."
        )


def _parse_when(name: str, when: object) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    if not isinstance(when, Mapping):
        raise UserError(
            f"when = {short_repr(when)} of {name} is not a table; "
            'write for example when = { rnn = ["lstm", "gru"] }.'
        )
    conditions = []
    for parent, values in when.items():
        listed = values if isinstance(values, (list, tuple)) else [values]
        if not listed:
            raise UserError(
                f"{name} depends on {short_repr(parent)} = [], which is never so; name its values, "
                "or remove the condition."
            )
        conditions.append((str(parent), tuple(check_value(str(parent), v) for v in listed)))
    return tuple(conditions)


def _parents_first(dimensions: Mapping[str, Dimension]) -> Iterator[Dimension]:
    """Order by dependence; a parent that is not in the space is a constant at its default."""
    done: set[str] = set()

    def visit(dimension: Dimension, path: tuple[str, ...]) -> Iterator[Dimension]:
        if dimension.name in done:
            return
        if dimension.name in path:
            circle = " -> ".join((*path, dimension.name))
            raise UserError(f"the when conditions of {circle} go in a circle; remove one.")
        for parent, values in dimension.when:
            if parent not in dimensions:
                default = PARAMETERS[parent].default
                raise UserError(
                    f"{dimension.name} depends on {parent}, which is not in the space "
                    f"(always {default!r}); add {parent} or remove the condition."
                )
            yield from visit(dimensions[parent], (*path, dimension.name))
            _check_reachable(dimension.name, dimensions[parent], values)
        done.add(dimension.name)
        yield dimension

    for dimension in dimensions.values():
        yield from visit(dimension, ())


def _check_reachable(name: str, parent: Dimension, values: Sequence[Scalar]) -> None:
    possible = parent.grid()
    if possible is None:
        raise UserError(f"{name} depends on {parent.name}, a continuous range; use listed values.")
    never = [v for v in values if v not in possible]
    if never:
        raise UserError(
            f"{name} depends on {parent.name} = {word(never[0])}, which the space never takes; "
            f"{parent.name} is {parent.in_words()}."
        )


# 16-128, 1e-4-1e-2 with an optional :16 (step), :log, :x2 (each twice the one before)
_RANGE = re.compile(
    r"(?P<low>\d+(?:\.\d+)?(?:e[+-]?\d+)?)-(?P<high>\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"(?::(?P<how>log|x?\d+(?:\.\d+)?(?:e[+-]?\d+)?))?",
    re.IGNORECASE,
)


def parse_flag(name: str, text: str) -> Dimension:
    """A dimension from the command line's form.

    ``32`` a constant; ``16,32,64`` a choice; ``16-128`` a range, ``16-128:16`` in steps of 16,
    ``16-128:log`` evenly over orders of magnitude, ``16-128:x2`` doubling: 16, 32, 64, 128.

    Raises:
        UserError: what came is none of these, or a value is not allowed.
    """
    spec = PARAMETERS.get(name)
    if spec is None:
        raise unknown_choice("hyperparameter", name, PARAMETERS)
    if spec.type in ("int", "float"):
        match = _RANGE.fullmatch(text.strip())
        if match:
            how = (match["how"] or "").lower()
            sampling = "log" if how.startswith(("log", "x")) else "linear"
            step = how.removeprefix("x") if how != "log" else ""
            return _range(name, match["low"], match["high"], step or None, sampling, {})
    return _choice(name, [part.strip() for part in text.split(",")], {})
