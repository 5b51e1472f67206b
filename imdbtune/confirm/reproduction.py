"""Compare a run with its reproduction, epoch by epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imdbtune.config.hyperparameters import convert
from imdbtune.models.metrics.metric import epoch_names
from imdbtune.search.context import Context
from imdbtune.search.rerun import train_again
from imdbtune.tracking import mlflow_names, reader, run_record
from imdbtune.tracking.entities import Trial
from imdbtune.tracking.writer import Run
from imdbtune.training.spec import Epoch

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient

TOLERANCE = 1e-6  # of every metric, for the same versions on the same machine


@dataclass(frozen=True)
class EpochPair:
    """One epoch of both runs; a run without this epoch has no metrics."""

    execution: int  # from 1
    epoch: int  # from 1
    then: Epoch
    now: Epoch

    @property
    def difference(self) -> float:
        """Largest difference of a metric; infinite if only one run has a metric."""
        known = {*self.then, *self.now} - {"epoch", "seconds"}
        pairs = [(self.then.get(m, math.nan), self.now.get(m, math.nan)) for m in known]
        differences = [abs(then - now) for then, now in pairs]
        return max((d if math.isfinite(d) else math.inf for d in differences), default=math.inf)


@dataclass(frozen=True)
class Reproduction:
    """A run, its reproduction and the comparison of the two."""

    original: Trial
    again: Trial
    epochs: tuple[EpochPair, ...]
    differs: dict[str, tuple[str, str]]  # facts other than metrics: (original, reproduction)

    @property
    def difference(self) -> float:
        """Largest difference of all epochs."""
        return max((pair.difference for pair in self.epochs), default=math.inf)

    @property
    def agrees(self) -> bool:
        """Whether all metrics of all epochs agree within ``TOLERANCE``."""
        return self.difference <= TOLERANCE

    @property
    def verdict(self) -> str:
        """``exactly``, ``within 1e-06`` or ``no``."""
        if not self.agrees:
            return "no"
        return f"within {TOLERANCE:g}" if self.difference else "exactly"

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON, with ``None`` for infinity."""
        finite = self.difference if math.isfinite(self.difference) else None
        return {
            "run_id": self.original.run_id,
            "reproduced_as": self.again.run_id,
            "agrees": self.verdict,
            "tolerance": TOLERANCE,
            "largest_difference": finite,
            "differs": {name: list(values) for name, values in self.differs.items()},
            "epochs": [dataclasses.asdict(pair) for pair in self.epochs],
        }


def reproduce_run(client: MlflowClient, run_id: str, context: Context) -> Reproduction:
    """Train a finished run again, as a new run; compare the two and log the comparison.

    Raises:
        UserError: no such run, it has not finished, or its reviews are missing.
        SearchAborted: the training failed.
    """
    original, again = train_again(client, run_id, context)
    compared = compare_runs(client, original, again)
    Run(client, again.run_id).log(tags={"imdbtune.agrees": compared.verdict})
    client.log_dict(again.run_id, compared.as_dict(), "reproduction.json")
    return compared


def compare_runs(client: MlflowClient, original: Trial, again: Trial) -> Reproduction:
    """Compare both runs as logged in MLflow."""
    then, now = (run_record.read_facts(client, trial) for trial in (original, again))
    executions = original.folds or int(convert("int", then.get("imdbtune.executions")) or 1)
    pairs = [pair for n in range(executions) for pair in _pairs(client, original, again, n)]
    return Reproduction(original, again, tuple(pairs), find_differences(then, now))


def _pairs(
    client: MlflowClient, original: Trial, again: Trial, execution: int
) -> Iterator[EpochPair]:
    names = epoch_names(original.metric_names)
    then, now = (
        {
            int(epoch["epoch"]): epoch
            for epoch in reader.read_history(client, run_id, names, execution)
        }
        for run_id in (original.run_id, again.run_id)
    )
    for number in sorted(then.keys() | now.keys()):
        yield EpochPair(execution + 1, number, then.get(number, {}), now.get(number, {}))


def find_differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return what differs and may change the metrics: versions, data, machine, compilation."""
    labels = {
        mlflow_names.DIGEST: "data digest",
        "imdbtune.threads": "threads",
        "imdbtune.compiled": "compiled",
        "imdbtune.cpu": "processor",
        "imdbtune.gpus": "graphics cards",
        mlflow_names.GIT_COMMIT: "git commit",
    }
    versions = sorted(key for key in then.keys() | now.keys() if key.startswith("version."))
    labels |= {key: key.removeprefix("version.") for key in versions}
    values = {name: (then.get(key, "?"), now.get(key, "?")) for key, name in labels.items()}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}
