"""The condition that trials have to meet, as far as possible before they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.requirement import PARAMETER_COUNT, Requirement, parse_requirement
from imdbtune.config.schema import SearchConfig
from imdbtune.models.parameter_count import count_parameters


@dataclass
class Constraint:
    """The condition ``tuner.require`` of a search; it counts what it refuses."""

    requirement: Requirement | None
    refused: int = 0

    @classmethod
    def of(cls, config: SearchConfig) -> Constraint:
        """Return the constraint of a configuration.

        Raises:
            UserError: it has a syntax error or an unknown column.
        """
        own = config.space.own
        samples, metrics = own.samples if own else (), config.own_metrics
        return cls(parse_requirement(config.tuner.require, samples, metrics=metrics))

    @property
    def needs_result(self) -> bool:
        """Whether some trials may miss it after their training."""
        return self.requirement is not None and self.requirement.needs_result

    def allows(self, params: TrialParams) -> bool:
        """Return whether a configuration may be trained, and count it otherwise."""
        if self.requirement is None:
            return True
        known: dict[str, object] = {**params.as_dict()}
        if params.own is None:  # the size of an own model is known once it is trained
            known[PARAMETER_COUNT] = count_parameters(params)
        if self.requirement.may_be_met(known):
            return True
        self.refused += 1
        return False

    def is_met(self, params: TrialParams, measured: Mapping[str, float]) -> bool:
        """Return whether a trained configuration with these results meets it."""
        return self.requirement is None or self.requirement.is_met(params, measured)
