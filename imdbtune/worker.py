"""What a worker process does with one trial: train it and write it to MLflow.

Failures come back as values, with their traceback, so that every executor tells them alike.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdbtune.errors import TrialFailed

if TYPE_CHECKING:
    from imdbtune.tracking import CorpusFacts
    from imdbtune.trial import OnEpoch, TrialResult, TrialSpec

Trainer = Callable[["TrialSpec", "OnEpoch"], "TrialResult"]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrialJob:
    """A trial on its way to a worker: what to train, and which MLflow run is its own."""

    trial_id: str
    spec: TrialSpec
    store: str
    run_id: str
    corpus: CorpusFacts | None = None
    log_model: bool = True
    trainer: Trainer | None = None


@dataclass(frozen=True)
class TrialFailure:
    """Why a trial did not finish, and whether its run says so already."""

    reason: str
    traceback: str
    logged: bool = True

    def __post_init__(self) -> None:
        """Errors of a tracking store may hold its password."""
        from imdbtune.store import scrubbed

        for name in ("reason", "traceback"):
            object.__setattr__(self, name, scrubbed(getattr(self, name)))


def run_trial(job: TrialJob, report: Report) -> TrialResult | TrialFailure:
    """Train and log one trial; its run is FINISHED or FAILED when this returns."""
    from imdbtune.store import connect
    from imdbtune.tracking import TrialRun

    run = TrialRun(connect(job.store, patient=True), job.run_id)

    def on_epoch(execution: int, epoch: dict[str, float]) -> None:
        run.log_epoch(execution, epoch)
        report({"trial_id": job.trial_id, "execution": execution, **epoch})

    try:
        if job.corpus is not None:
            run.log_corpus(job.corpus)
        result = (job.trainer or _train())(job.spec, on_epoch)
        if not math.isfinite(result.score):
            raise TrialFailed(f"{job.spec.objective} came out as {result.score}.")
        run.log_result(result, job.spec.objective, job.spec.folder)
        if job.log_model:
            run.log_model(result.model)
        run.end("FINISHED")
    except Exception as error:
        failure = TrialFailure(_reason(error), traceback.format_exc())
        run.fail(failure.reason, failure.traceback)
        return failure
    return result


def _train() -> Trainer:
    from imdbtune.training import train_trial

    return train_trial


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    if isinstance(error, TrialFailed):
        return text[0]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def trial_folder(search_folder: Path, trial_id: str) -> Path:
    """Where a trial's files are made before MLflow has them."""
    return search_folder / "trials" / trial_id
