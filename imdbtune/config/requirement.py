"""The condition ``tuner.require``, of which a part may be known only after a training."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from imdbtune.config.filter_expression import Condition, parse_condition, words_in
from imdbtune.config.hyperparameters import Scalar, TrialParams
from imdbtune.config.objectives import Directed, all_objectives

PARAMETER_COUNT = "parameter_count"  # the only result that is known before a training


@dataclass(frozen=True)
class Requirement:
    """A condition on hyperparameters and results.

    Args:
        text: as the user wrote it.
        may_be_met: whether a trial can meet it, by what is known before its training.
        has_met: whether a row with all results meets it.
        needs_result: whether it names a result of the training.
    """

    text: str
    may_be_met: Condition
    has_met: Condition
    needs_result: bool

    def is_met(self, params: TrialParams, measured: Mapping[str, float]) -> bool:
        """Return whether a trained configuration meets it.

        Args:
            params: the configuration, which was checked before its training.
            measured: its results.
        """
        if params.own is None and not self.needs_result:
            return True
        return self.has_met({**params.as_dict(), **measured})


@functools.lru_cache
def parse_requirement(
    text: str,
    own: tuple[tuple[str, Scalar], ...] = (),
    any_column: bool = False,
    metrics: tuple[Directed, ...] = (),
) -> Requirement | None:
    """Return the requirement in a text; ``None`` if that is empty.

    Args:
        text: the condition.
        own: the hyperparameters of a user's own model, each with some value; empty: it is ours.
        metrics: of the user's own.
        any_column: columns may be missing, as those of a trial in which they are not active.

    Raises:
        UserError: it has a syntax error or an unknown column.
    """
    if not text:
        return None
    results = dict.fromkeys(all_objectives(metrics), 0.0)
    sample: dict[str, object] = {**(dict(own) or TrialParams().as_dict()), **results}
    samples, columns = [sample], (*sample, *(words_in(text) if any_column else ()))
    return Requirement(
        text,
        parse_condition(text, samples, columns, missing=True),
        parse_condition(text, samples, columns),
        any(word in results and word != PARAMETER_COUNT for word in words_in(text)),
    )
