"""The condition that configurations have to meet before they are trained."""

from __future__ import annotations

from dataclasses import dataclass

from imdbtune.config.filter_expression import Condition, parse_condition
from imdbtune.config.hyperparameters import PARAMETERS, Scalar, TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.errors import UserError, short_repr
from imdbtune.models.parameter_count import count_parameters
from imdbtune.search.initial_trials import InitialTrials

PARAMETER_COUNT = "parameter_count"
COLUMNS = (*PARAMETERS, PARAMETER_COUNT)  # what is known before a training
MAX_REFUSED = 10_000  # configurations in a row, after which a space counts as empty


@dataclass
class Constraint:
    """The condition ``tuner.require`` of a search; it counts what it refuses."""

    condition: Condition | None
    refused: int = 0

    @classmethod
    def of(cls, config: SearchConfig) -> Constraint:
        """Return the constraint of a configuration.

        Raises:
            UserError: it has a syntax error, or a column that is known only after a training.
        """
        text = config.tuner.require
        sample = _row(TrialParams())
        return cls(parse_condition(text, [sample], COLUMNS) if text else None)

    def allows(self, params: TrialParams) -> bool:
        """Return whether a configuration may be trained, and count it otherwise."""
        if self.condition is None or self.condition(_row(params)):
            return True
        self.refused += 1
        return False


def _row(params: TrialParams) -> dict[str, Scalar]:
    return {**params.as_dict(), PARAMETER_COUNT: count_parameters(params)}


def check_initial_trials(config: SearchConfig) -> None:
    """Check that the configurations to try are in the space, and that one meets the constraint.

    Raises:
        UserError: one is not, the constraint is invalid, or none of many configurations meets it.
    """
    constraint, initial = Constraint.of(config), InitialTrials(config)
    for number in range(MAX_REFUSED):
        point = initial.draw(number)
        if point is None:
            break
        if constraint.allows(config.space.params(point)):
            return
    raise UserError(
        f"the search space is empty: --require {short_repr(config.tuner.require)} refuses all of "
        f"the {constraint.refused:,} configurations that were drawn; widen one of the two."
    )
