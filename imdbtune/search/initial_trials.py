"""The first configurations of a search: those that the user wants to try, then an even design."""

from __future__ import annotations

from collections.abc import Container

from imdbtune.config.hyperparameters import Scalar, TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.config.tries import complete, parse_values, split_tries
from imdbtune.errors import UserError, short_repr
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
            complete(config.space, parse_values(text, config.space), self.design.draw(number) or {})
            for number, text in enumerate(split_tries(config.tuner.tries))
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
