"""A condition that divides numbers, such as stars, into two labels."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

from imdbtune.config.hyperparameters import convert
from imdbtune.errors import UserError, short_repr

# Each operator with its opposite.
_COMPARISONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_OPPOSITES = {">=": "<", ">": "<=", "<=": ">", "<": ">="}


@dataclass(frozen=True)
class LabelCondition:
    """A comparison with a number; the two labels are named ``>=4`` and ``<4``, for example."""

    comparison: str  # a key of _COMPARISONS
    limit: float

    @property
    def positive(self) -> str:
        """The label of numbers that meet the condition."""
        return f"{self.comparison}{self.limit:.12g}"

    @property
    def negative(self) -> str:
        """The label of all other numbers."""
        return f"{_OPPOSITES[self.comparison]}{self.limit:.12g}"

    def label(self, value: object) -> str:
        """Return the label of a number, which may be text; empty if it is not a number."""
        number = convert("float", value)
        if number is None:
            return ""
        met = _COMPARISONS[self.comparison](number, self.limit)
        return self.positive if met else self.negative


def parse_label_condition(text: str) -> LabelCondition | None:
    """Return the condition in ``text``, such as ``>=4``; ``None`` if it is empty.

    Raises:
        UserError: it is not a comparison with a number.
    """
    if not text:
        return None
    found = re.fullmatch(r"\s*([<>]=?)\s*(\S+)\s*", text)
    limit = convert("float", found[2]) if found else None
    if found is None or limit is None:
        raise UserError(
            f"label_at = {short_repr(text)} is not allowed; it is one of {', '.join(_COMPARISONS)} "
            "and a number, such as >=4."
        )
    return LabelCondition(found[1], float(limit))
