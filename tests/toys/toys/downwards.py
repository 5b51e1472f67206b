"""A sampler: the values of the only hyperparameter that is searched, in descending order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imdbtune.config.schema import SearchConfig
from imdbtune.search.sampler import Answer, Idle, SamplerKind, Stopped, Suggestion, Told


class Downwards:
    """Suggest the largest value first."""

    def __init__(self, config: SearchConfig) -> None:
        (dimension,) = config.space.searched
        self.name = dimension.name
        self.values = sorted(dimension.values, reverse=True)
        self.asked = 0

    def ask(self) -> Answer:
        if self.asked == len(self.values):
            return Stopped(space_exhausted=True)
        self.asked += 1
        return Suggestion(f"{self.asked - 1:04d}", {self.name: self.values[self.asked - 1]})

    def tell(
        self,
        trial_id: str,
        score: float | None,
        reason: str = "",
        measured: Mapping[str, float] = {},
    ) -> None:
        """Ignore the scores."""

    def restore(self, history: Sequence[Suggestion | Idle | Told]) -> None:
        self.asked = sum(isinstance(past, Suggestion) for past in history)


DOWNWARDS = SamplerKind(about="values in descending order", make=Downwards, covers_space=True)
