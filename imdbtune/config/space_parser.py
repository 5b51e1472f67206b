"""Parse search spaces: a TOML ``[space]`` table, or flags such as ``16-128:x2``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, replace

from imdbtune.config.hyperparameters import PARAMETERS, Scalar, allowed, check_field, convert
from imdbtune.config.own_model import OwnModel
from imdbtune.config.search_space import Dimension, SearchSpace, word
from imdbtune.errors import UserError, short_repr, unknown_choice

Known = Mapping[str, Field[object]]  # hyperparameters by name, with their limits


def parse_space(
    table: Mapping[str, object],
    overridden: frozenset[str] = frozenset(),
    own: OwnModel | None = None,
) -> SearchSpace:
    """Return the search space of a ``[space]`` table.

    A hyperparameter is a constant, a list, ``{min, max, step, sampling}`` or ``{values}``, the
    last two optionally with ``when``. Text is parsed by :func:`parse_flag`.

    Args:
        table: a value for each hyperparameter.
        overridden: hyperparameters whose value is not the file's. The file's conditions may then
            name values that no longer occur; these are left out.
        own: the user's own model. What it draws is in the space, and the table narrows it.

    Raises:
        UserError: a key is unknown, a range empty, a value not allowed, or a condition never true.
    """
    if own is not None:
        return _parse_own_space(table, own)
    dimensions = {name: parse_dimension(name, value) for name, value in table.items()}
    possible = _still_possible(dimensions, overridden, kept=overridden)
    return SearchSpace(tuple(_parents_first(possible, PARAMETERS)))


def _parse_own_space(table: Mapping[str, object], own: OwnModel) -> SearchSpace:
    """Return the space of an own model, whose conditions hold also where the table narrows it."""
    drawn = {dimension.name: dimension for dimension in own.drawn}
    given = {name: parse_dimension(name, value, own.parameters) for name, value in table.items()}
    conditional = frozenset(name for name, dimension in given.items() if dimension.when)
    inherited = {
        name: replace(dimension, when=drawn[name].when)
        for name, dimension in given.items()
        if name in drawn and name not in conditional
    }
    dimensions = {**drawn, **given, **inherited}
    possible = _still_possible(dimensions, frozenset(given), kept=conditional)
    return SearchSpace(tuple(_parents_first(possible, own.parameters)), own)


def _still_possible(
    dimensions: dict[str, Dimension], overridden: frozenset[str], kept: frozenset[str]
) -> dict[str, Dimension]:
    """Return the dimensions with those conditions that overridden parents can still meet.

    A dimension whose condition is never true any more is left out, as it has its default in all
    trials, and so are those that depend on it. Those that are to be ``kept`` do not change.
    """
    narrowed = {
        name: dimension if name in kept else _narrow(dimension, dimensions, overridden)
        for name, dimension in dimensions.items()
    }
    return _without_orphans(dimensions, narrowed)


def _without_orphans(
    dimensions: Mapping[str, Dimension], narrowed: Mapping[str, Dimension | None]
) -> dict[str, Dimension]:
    """Return the narrowed dimensions that are left, and whose parents are."""
    kept = {name: dimension for name, dimension in narrowed.items() if dimension}
    while True:
        orphans = {
            name
            for name, dimension in kept.items()
            if any(parent in dimensions and parent not in kept for parent, _ in dimension.when)
        }
        if not orphans:
            return kept
        kept = {name: dimension for name, dimension in kept.items() if name not in orphans}


def _narrow(
    dimension: Dimension, dimensions: Mapping[str, Dimension], overridden: frozenset[str]
) -> Dimension | None:
    """Return a dimension with the values that overridden parents still have, or ``None``."""
    conditions = []
    for parent, values in dimension.when:
        possible = dimensions[parent].grid() if parent in dimensions else None
        if parent in overridden and possible is not None:
            values = tuple(value for value in values if value in possible)
            if not values:
                return None
            if set(values) == set(possible) and not dimensions[parent].when:
                continue  # it always holds
        conditions.append((parent, values))
    return replace(dimension, when=tuple(conditions))


def parse_dimension(name: str, value: object, known: Known = PARAMETERS) -> Dimension:
    """Return the dimension that a value of a ``[space]`` table describes.

    Raises:
        UserError: the name is unknown, or the value is not allowed.
    """
    if name not in known:
        raise unknown_choice("hyperparameter", name, known)
    if isinstance(value, str):
        parsed = parse_flag(name, value, known)
    elif isinstance(value, Mapping):
        parsed = _parse_table(known[name], value, known)
    else:
        values = value if isinstance(value, (list, tuple)) else [value]
        parsed = _choice(known[name], values)
    is_own = PARAMETERS.get(name) is not known[name]
    return replace(parsed, kind=str(known[name].type)) if is_own else parsed


def _choice(spec: Field[object], values: Sequence[object]) -> Dimension:
    name = spec.name
    if not values:
        raise UserError(f"{name} = [] has no values; {name} is {allowed(spec)}.")
    checked = tuple(check_field(spec, v) for v in values)
    if len(set(checked)) != len(checked):
        raise UserError(f"{name} = {short_repr(list(values))} lists a value twice; list each once.")
    return Dimension(name, values=checked)


MAX_GRID_VALUES = 100_000  # of a range with a step
TABLE_KEYS = ("min", "max", "step", "sampling", "values", "when")


def _parse_table(spec: Field[object], table: Mapping[str, object], known: Known) -> Dimension:
    name = spec.name
    for key in table:
        if key not in TABLE_KEYS:
            raise unknown_choice(f"key in {name}", key, TABLE_KEYS)
    when = _parse_when(name, table.get("when", {}), known)
    if "values" in table:
        if set(table) - {"values", "when"}:
            raise UserError(f"{name} has both values and a range; they are mutually exclusive.")
        values = table["values"]
        chosen = _choice(spec, values if isinstance(values, (list, tuple)) else [values])
        return replace(chosen, when=when)
    if "min" not in table or "max" not in table:
        raise UserError(
            f"{name} = {short_repr(dict(table))} is not a range; give both min and max."
        )
    ends, step = (table["min"], table["max"]), table.get("step")
    return replace(_range(spec, *ends, step, table.get("sampling")), when=when)


def _range(
    spec: Field[object], low: object, high: object, step: object, sampling: object
) -> Dimension:
    name = spec.name
    if spec.type not in ("int", "float") or spec.metadata["choices"]:
        raise UserError(f"{name} cannot be a range; {name} is {allowed(spec)}: list the values.")
    first, last = float(check_field(spec, low)), float(check_field(spec, high))
    sampling = "linear" if sampling is None else sampling
    if sampling not in ("linear", "log"):
        raise unknown_choice(f"sampling of {name}", sampling, ("linear", "log"))
    if first >= last:
        raise UserError(f"{name} = {low} to {high} is an empty range; min must be below max.")
    if sampling == "log" and first <= 0:
        raise UserError(f"{name} = {low} to {high} cannot be sampled as log; min must be above 0.")
    is_log = sampling == "log"
    return Dimension(
        name,
        low=first,
        high=last,
        step=None if step is None else _parse_step(spec, step, first, last, is_log),
        sampling=str(sampling),
    )


def _parse_step(
    spec: Field[object], step: object, first: float, last: float, is_log: bool
) -> float:
    """Return the step of a range, whose size is limited: grids are held in memory."""
    name, is_int, width = spec.name, spec.type == "int", last - first
    number = float(convert("int" if is_int else "float", step) or 0)
    if number <= (1 if is_log else 0) or (not is_log and number > width):
        kind = "a whole number" if is_int else "a number"
        limit = "above 1 (each value times the step)" if is_log else f"above 0, at most {width:g}"
        raise UserError(
            f"step = {short_repr(step)} of {name} is not allowed; it is {kind} {limit}."
        )
    count = math.log(last / first) / math.log(number) if is_log else width / number
    if count > MAX_GRID_VALUES:
        raise UserError(
            f"step = {short_repr(step)} of {name} gives {count:.3g} values, more than "
            f"{MAX_GRID_VALUES:,}; use a larger step, or none."
        )
    return number


def _parse_when(
    name: str, when: object, known: Known
) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
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
                f"{name} depends on {short_repr(parent)} = [], which is never true; list values, "
                "or remove the condition."
            )
        if parent not in known:
            raise unknown_choice("hyperparameter", parent, known)
        conditions.append((str(parent), tuple(check_field(known[parent], v) for v in listed)))
    return tuple(conditions)


def _parents_first(dimensions: Mapping[str, Dimension], known: Known) -> Iterator[Dimension]:
    """Yield the dimensions in topological order.

    Raises:
        UserError: conditions form a cycle, can never be true, or need a parent outside the space.
    """
    done: set[str] = set()

    def visit(dimension: Dimension, path: tuple[str, ...]) -> Iterator[Dimension]:
        if dimension.name in done:
            return
        if dimension.name in path:
            cycle = " -> ".join((*path, dimension.name))
            raise UserError(f"the when conditions of {cycle} form a cycle; remove one.")
        for parent, values in dimension.when:
            if parent not in dimensions:
                default = known[parent].default
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
    impossible = [v for v in values if v not in possible]
    if impossible:
        raise UserError(
            f"{name} depends on {parent.name} = {word(impossible[0])}, which never occurs; "
            f"{parent.name} is {parent.in_words()}."
        )


# 16-128, 1e-4-1e-2 with an optional :16 (step), :log, :x2 (each value twice the previous one)
_RANGE = re.compile(
    r"(?P<low>\d+(?:\.\d+)?(?:e[+-]?\d+)?)-(?P<high>\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"(?::(?P<step>log|x?\d+(?:\.\d+)?(?:e[+-]?\d+)?))?",
    re.IGNORECASE,
)


def parse_flag(name: str, text: str, known: Known = PARAMETERS) -> Dimension:
    """Return the dimension that a command-line value describes.

    ``32`` is a constant; ``16,32,64`` a choice; ``16-128`` a range, ``16-128:16`` in steps of 16,
    ``16-128:log`` sampled log-uniformly, ``16-128:x2`` doubling: 16, 32, 64, 128.

    Raises:
        UserError: the text has none of these forms, or a value is not allowed.
    """
    spec = known.get(name)
    if spec is None:
        raise unknown_choice("hyperparameter", name, known)
    if spec.type in ("int", "float") and not spec.metadata["choices"]:
        match = _RANGE.fullmatch(text.strip())
        if match:
            suffix = (match["step"] or "").lower()
            sampling = "log" if suffix.startswith(("log", "x")) else "linear"
            step = suffix.removeprefix("x") if suffix != "log" else ""
            return _range(spec, match["low"], match["high"], step or None, sampling)
    return _choice(spec, [part.strip() for part in text.split(",")])
