"""Find the hyperparameters of a user's own model by dry builds.

A function that is called once shows only what it draws with these values. So it is called again
with each value of what has few values, one at a time, until nothing new is drawn.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.cluster.local_executor import training_environment
from imdbtune.config.hyperparameters import Scalar, TrialParams, beside_own
from imdbtune.config.own_model import ModelSource, OwnModel, check_name
from imdbtune.config.own_source import read_own_text
from imdbtune.config.search_space import Dimension
from imdbtune.data.sources import default_cache
from imdbtune.errors import UserError, short_repr
from imdbtune.search.python_model import source_of

if TYPE_CHECKING:
    import keras_tuner

MAX_BUILDS = 48
# The largest value of a range of whole numbers is tried if it is small: it may count layers. A
# larger one may be a size, and the model not fit in memory.
MAX_COUNT = 12

Values = dict[str, Scalar]


def inspect_file(path: Path, function: str, samples: Sequence[Mapping[str, Scalar]]) -> OwnModel:
    """Return the own model of a file, after running its function.

    Args:
        samples: values of our hyperparameters to build the model with.

    Raises:
        UserError: there is no such function, or its models cannot be trained here.
    """
    given = tuple(tuple(sorted(each.items())) for each in samples)
    return _inspect(read_source(path, function), str(path.absolute()), given)


def inspect_object(model: object, samples: Sequence[Mapping[str, Scalar]]) -> OwnModel:
    """Return the own model of a function or class of Python, after running it.

    Args:
        samples: as in :func:`inspect_file`.

    Raises:
        UserError: it is none, its source cannot be had, or its models cannot be trained here.
    """
    given = tuple(tuple(sorted(each.items())) for each in samples)
    return _inspect(*source_of(model), given)


def read_source(path: Path, function: str) -> ModelSource:
    """Return the source in a file.

    Raises:
        UserError: it cannot be read.
    """
    return ModelSource(path.name, function, read_own_text(path, "model"))


@functools.lru_cache(maxsize=8)
def _inspect(
    source: ModelSource, location: str, samples: tuple[tuple[tuple[str, Scalar], ...], ...]
) -> OwnModel:
    if "tensorflow" not in sys.modules:  # which reads them when it is imported
        os.environ.update(training_environment(default_cache()))
    first, *others = samples or ((),)
    exploration = Exploration(source, dict(first))
    exploration.run()
    for sample in others:
        exploration.try_values(dict(sample))
    return OwnModel(
        source, exploration.compiled, exploration.dimensions(), location, exploration.outputs
    )


class Exploration:
    """Dry builds of a source.

    Args:
        source: the user's.
        ours: values of our hyperparameters that are no defaults.
    """

    def __init__(self, source: ModelSource, ours: Values) -> None:
        self.source = source
        self.ours = ours
        self.compiled = False
        self.outputs = 0
        self.found: dict[str, Any] = {}  # Keras Tuner's hyperparameters by name
        self._builds = 0

    def run(self) -> None:
        """Build with the defaults twice, then with other values, until nothing new is drawn."""
        first = self.try_values({}, saved=True)
        self._check_repeats(self._descriptions(first), self._descriptions(self.try_values({})))
        queue: list[tuple[Values, Any]] = [({}, hp) for hp in self._add(first)]
        while queue and self._builds < MAX_BUILDS:
            base, hp = queue.pop(0)
            for values in self._alternatives(base, hp):
                queue += [(values, new) for new in self._add(self.try_values(values))]

    def try_values(self, values: Values, saved: bool = False) -> keras_tuner.HyperParameters:
        """Build a model with these values, and check it.

        Raises:
            UserError: it cannot be trained here.
        """
        try:
            return self._build(values, saved)
        except UserError as error:
            if not values:
                raise
            with_values = f"{str(error).rstrip('.')} (with {_in_words(values)})."
            raise UserError(with_values) from error

    def _build(self, values: Values, saved: bool) -> keras_tuner.HyperParameters:
        from imdbtune.models.own_code import error_in
        from imdbtune.models.own_source import call_build, ensure_built, where
        from imdbtune.training.own_check import check_model

        self._builds += 1
        ours = {name: getattr(TrialParams(), name) for name in beside_own(compiled=False)}
        model, hp = call_build(self.source, {**ours, **self.ours, **values})
        if self._builds > 1 and bool(model.compiled) != self.compiled:
            raise UserError(
                f"{where(self.source)}: {self.source.function} compiles its model in some calls "
                "only; compile it always or never."
            )
        self.compiled = bool(model.compiled)
        read = {**ours, **self.ours, **hp.values}
        try:
            ensure_built(model, int(read["maxlen"]))
        except Exception as error:
            file, at = self.source.file, where(self.source)
            raise error_in(file, error, "the model raises", at) from error
        outputs = check_model(self.source, model, read, saved)
        if self.outputs not in (0, outputs):
            raise UserError(
                f"{where(self.source)}: the model returns {outputs} probabilities of a review, but "
                f"{self.outputs} in another call; return as many in all calls."
            )
        self.outputs = outputs
        return hp

    def _descriptions(self, hp: keras_tuner.HyperParameters) -> list[str]:
        return [repr(each) + str([c.get_config() for c in each.conditions]) for each in hp.space]

    def _check_repeats(self, once: list[str], again: list[str]) -> None:
        from imdbtune.models.own_source import where

        if once != again:
            other = next(iter({*once} ^ {*again}), "the same in another order")
            raise UserError(
                f"{where(self.source)}: {self.source.function} draws other hyperparameters from "
                f"call to call ({short_repr(other.partition('[')[0])} only once); draw the same "
                "for the same values."
            )

    def _add(self, hp: keras_tuner.HyperParameters) -> list[Any]:
        """Note what was drawn; return what is new.

        Raises:
            UserError: a name stands for two hyperparameters.
        """
        from imdbtune.models.own_source import where

        new: dict[str, Any] = {}
        for each in hp.space:
            known = self.found.get(each.name, new.get(each.name))
            if known is None:
                new[each.name] = each
            elif repr(known) != repr(each) or known.conditions != each.conditions:
                raise UserError(
                    f"{where(self.source)}: {self.source.function} draws {each.name} in two ways, "
                    "with other values or in other scopes; give each its own name."
                )
        self.found |= new
        return list(new.values())

    def _alternatives(self, base: Values, hp: Any) -> Iterator[Values]:
        """Yield values with which more may be drawn: those of ``hp``, and all it depends on."""
        needed = {c.name: c.values[0] for c in hp.conditions}
        for value in _few_values(hp):
            if value != hp.default or needed:
                yield {**base, **needed, hp.name: value}

    def dimensions(self) -> tuple[Dimension, ...]:
        """Return the search range of each hyperparameter that was drawn.

        Raises:
            UserError: one has a name or a range that cannot be searched here.
        """
        from imdbtune.models.own_source import where

        ours = beside_own(self.compiled)
        try:
            return tuple(_dimension(hp, hp.name in ours) for hp in self.found.values())
        except UserError as error:
            raise UserError(f"{where(self.source)}: {error}") from error


def _in_words(values: Mapping[str, Scalar]) -> str:
    return " and ".join(f"{name} = {value}" for name, value in values.items())


def _few_values(hp: Any) -> list[Scalar]:
    kind = type(hp).__name__
    if kind == "Choice":
        return list(hp.values)
    if kind == "Boolean":
        return [False, True]
    if kind == "Int" and hp.max_value <= MAX_COUNT:
        return list({hp.min_value: 0, hp.max_value: 0})
    return []


def _dimension(hp: Any, is_ours: bool) -> Dimension:
    """Return Keras Tuner's hyperparameter as a dimension.

    Args:
        is_ours: it has the name of one of ours, which the model then draws the range of.
    """
    if not is_ours:
        check_name(hp.name)
    when: dict[str, tuple[Scalar, ...]] = {c.name: tuple(c.values) for c in hp.conditions}
    conditions = tuple(when.items())
    kind = type(hp).__name__
    if kind in ("Choice", "Boolean", "Fixed"):
        listed: tuple[Scalar, ...] = (False, True)
        if kind != "Boolean":
            listed = tuple(hp.values) if kind == "Choice" else (hp.value,)
        if not all(_is_plain(value) for value in listed):
            raise UserError(f"{hp.name} = {short_repr(listed)} is not a line of text or a number.")
        type_name = type(listed[0]).__name__
        made = Dimension(hp.name, values=listed, when=conditions, kind=type_name)
    elif hp.sampling not in ("linear", "log"):
        raise UserError(f"{hp.name} has the sampling {hp.sampling}; use linear or log.")
    else:
        made = _range(hp, conditions)
    return _checked_as_ours(made) if is_ours else made


def _is_plain(value: object) -> bool:
    return value.isprintable() if isinstance(value, str) else isinstance(value, int | float)


def _range(hp: Any, when: tuple[tuple[str, tuple[Scalar, ...]], ...]) -> Dimension:
    kind = type(hp).__name__.lower()
    low, high = hp.min_value, hp.max_value
    step = None if kind == "int" and hp.step == 1 and hp.sampling == "linear" else hp.step
    if low >= high or (step and hp.sampling == "linear" and low + step > high):
        return Dimension(hp.name, values=(low,), when=when, kind=kind)
    step = None if step is None else float(step)
    return Dimension(hp.name, (), float(low), float(high), step, hp.sampling, when, kind)


def _checked_as_ours(dimension: Dimension) -> Dimension:
    """Return a dimension of one of our hyperparameters, after checking its limits."""
    from imdbtune.config.hyperparameters import check_value

    name = dimension.name
    if dimension.values:
        values = tuple(check_value(name, value) for value in dimension.values)
        return replace(dimension, values=values, kind="")
    for end in (dimension.low, dimension.high):
        check_value(name, end)
    return replace(dimension, kind="")
