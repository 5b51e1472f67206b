"""All code of the user's own that a search or training runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imdbtune.config.own_metric import OwnMetric
from imdbtune.config.own_model import ModelSource
from imdbtune.config.own_source import OwnSource


@dataclass(frozen=True)
class OwnCode:
    """The user's own model and metrics, as far as there are any.

    Args:
        model: source of the model.
        metrics: measured in each epoch.
    """

    model: ModelSource | None = None
    metrics: tuple[OwnMetric, ...] = ()

    @property
    def sources(self) -> Iterator[OwnSource]:
        """Yield all sources."""
        if self.model is not None:
            yield self.model
        yield from (metric.source for metric in self.metrics)


NO_CODE = OwnCode()
