"""The condition that configurations have to meet before they are trained."""

from __future__ import annotations

from dataclasses import dataclass

from imdbtune.config.filter_expression import Condition, parse_condition
from imdbtune.config.hyperparameters import PARAMETERS, Scalar, TrialParams
from imdbtune.config.schema import SearchConfig
from imdbtune.models.parameter_count import count_parameters

PARAMETER_COUNT = "parameter_count"
COLUMNS = (*PARAMETERS, PARAMETER_COUNT)  # what is known before a training


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
