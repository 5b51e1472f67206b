"""What a confirmation recommends, and how certain it has to be."""

from __future__ import annotations

from dataclasses import dataclass

from imdbtune.models.metrics.accuracy import MARGIN as MARGIN

LEVEL = 0.05  # significance level of all comparisons together; 1 - LEVEL: confidence level


@dataclass(frozen=True)
class Rule:
    """What is recommended, and how certain it has to be.

    Args:
        margin: by which the recommended configuration may be worse than any other.
        level: probability of a wrong claim, over all comparisons together.
    """

    margin: float = MARGIN
    level: float = LEVEL


DEFAULT_RULE = Rule()
