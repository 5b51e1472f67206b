"""Configurations that a search tries first, as text: ``rnn=gru units=64; rnn=lstm``."""

from __future__ import annotations

from collections.abc import Mapping

from imdbtune.config.hyperparameters import Scalar, check_field
from imdbtune.config.search_space import Dimension, SearchSpace, word
from imdbtune.errors import UserError, short_repr, unknown_choice


def split_tries(tries: str) -> list[str]:
    """Return the configurations of ``tuner.tries``, each as text."""
    return [text.strip() for text in tries.split(";") if text.strip()]


def is_possible(text: str, space: SearchSpace) -> bool:
    """Return whether a configuration is in the space."""
    try:
        complete(space, parse_values(text, space), {})
    except UserError:
        return False
    return True


def parse_values(text: str, space: SearchSpace) -> dict[str, Scalar]:
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
        if name not in space.parameters:
            raise unknown_choice("hyperparameter", name, space.parameters)
        values[name] = check_field(space.parameters[name], value)
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
        if params.value(name) != value:
            raise UserError(
                f"{name} = {word(value)} of --try is not in the search space, where it is "
                f"{word(params.value(name))} in such a trial; widen the space, or leave it out."
            )
    return values


def _first_value(dimension: Dimension) -> Scalar:
    return dimension.values[0] if dimension.values else dimension.typed(dimension.low)
