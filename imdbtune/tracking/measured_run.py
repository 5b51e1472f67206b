"""Which metrics a run has, by its tags."""

from __future__ import annotations

from imdbtune.config.extensions import measured_always
from imdbtune.config.objectives import larger_is_better
from imdbtune.config.own_metric import MetricFacts, facts_in
from imdbtune.tracking import mlflow_names


class MeasuredRun:
    """Base of searches and trials."""

    tags: dict[str, str]

    @property
    def own_metrics(self) -> tuple[MetricFacts, ...]:
        """The metrics of the user's own that it has."""
        return facts_in(self.tags.get(mlflow_names.OWN_METRICS, ""))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of its metrics: accuracy, loss, and those that not every search has."""
        further = self.tags.get(mlflow_names.METRICS, "")
        names = [*measured_always(), *(further.split(",") if further else ())]
        return tuple(dict.fromkeys(names))

    def is_maximised(self, objective: str) -> bool:
        """Return whether an objective is to be maximised."""
        return larger_is_better(objective, self.own_metrics)
