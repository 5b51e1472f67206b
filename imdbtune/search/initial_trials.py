"""The first configurations of a search: those that the user wants to try, then an even design."""

from __future__ import annotations

from collections.abc import Container, Mapping

from imdbtune.config.hyperparameters import PARAMETERS, Scalar, TrialParams, check_value
from imdbtune.config.schema import SearchConfig
from imdbtune.config.search_space import Dimension, SearchSpace, word
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.search.constraint import Constraint
from imdbtune.search.space_design import SpaceDesign

MAX_REFUSED = 10_000  # configurations in a row, after which a space counts as empty


class InitialTrials:
    """The configurations of ``tuner.tries``, followed by a :class:`SpaceDesign`.

    A configuration to try may leave hyperparameters open: they have the values of the design.
    All meet the constraint of the search.

    Raises:
        UserError: a configuration to try is not in the space.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.space = config.space
        self.constraint = Constraint.of(config)
        self.design = SpaceDesign(config.space, config.tuner.seed)
        self._passed = 0  # the first trials, none of which is new any more
        self.tried = [
            complete(config.space, parse_values(text), self.design.draw(number) or {})
            for number, text in enumerate(texts_to_try(config))
        ]

    def next_new(self, known: Container[TrialParams]) -> dict[str, Scalar] | None:
        """Return the first configuration that is not known; ``None``: there is none.

        Args:
            known: configurations that were suggested; none of them is removed later.
        """
        refused = 0
        while refused < MAX_REFUSED and (values := self._draw(self._passed)) is not None:
            params = self.space.params(values)
            if params not in known:
                if self.constraint.allows(params):
                    return values
                refused += 1
            self._passed += 1
        return None

    def _draw(self, number: int) -> dict[str, Scalar] | None:
        if number < len(self.tried):
            return self.tried[number]
        return self.design.draw(number - len(self.tried))


def check_initial_trials(config: SearchConfig) -> None:
    """Check that the configurations to try are in the space, and that one meets the constraint.

    Raises:
        UserError: one is not, the constraint is invalid, or none of many configurations meets it.
    """
    initial = InitialTrials(config)
    if initial.next_new(()) is None:
        raise UserError(
            f"the search space is empty: --require {short_repr(config.tuner.require)} refuses all "
            f"of the {initial.constraint.refused:,} configurations that were drawn; widen one of "
            "the two."
        )


def texts_to_try(config: SearchConfig) -> list[str]:
    """Return the configurations of ``tuner.tries``, each as text."""
    return [text for text in config.tuner.tries.split(";") if text.strip()]


def parse_values(text: str) -> dict[str, Scalar]:
    """Return the values in a text such as ``rnn=gru units=64``.

    Raises:
        UserError: a part is not NAME=VALUE, a name is unknown, or a value is not allowed.
    """
    values: dict[str, Scalar] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals:
            raise UserError(
                f"{short_repr(part)} in --try {short_repr(text)} is not NAME=VALUE; "
                'write for example --try "rnn=gru units=64".'
            )
        if name not in PARAMETERS:
            raise unknown_choice("hyperparameter", name, PARAMETERS)
        values[name] = check_value(name, value)
    return values


def complete(
    space: SearchSpace, given: Mapping[str, Scalar], others: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Return the values of all searched hyperparameters that are active.

    Args:
        space: the search space.
        given: values that must be in it.
        others: values of the hyperparameters that are not given.

    Raises:
        UserError: a given value is not in the space.
    """
    values: dict[str, Scalar] = {}
    chosen: dict[str, Scalar] = dict(space.constants)
    for dimension in space.searched:
        if dimension.is_active(chosen):
            name = dimension.name
            value = given.get(name, others.get(name, _first_value(dimension)))
            values[name] = chosen[name] = value
    params = space.params(values)
    dimensions = {dimension.name: dimension for dimension in space.searched}
    for name, value in given.items():
        if name in values and value not in dimensions[name]:
            raise UserError(
                f"{name} = {word(value)} of --try is not in the search space, where it is "
                f"{dimensions[name].in_words()}; widen the space, or try another value."
            )
        if getattr(params, name) != value:
            raise UserError(
                f"{name} = {word(value)} of --try is not in the search space, where it is "
                f"{word(getattr(params, name))} in such a trial; widen the space, or leave it out."
            )
    return values


def _first_value(dimension: Dimension) -> Scalar:
    return dimension.values[0] if dimension.values else dimension.typed(dimension.low)
