"""Evaluate the model of a trial on the test reviews, which no search uses, and log the result."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.data.download import Progress
from imdbtune.search.context import Context
from imdbtune.search.trusted_sources import find_metrics, needed_source
from imdbtune.tracking import reader, writer
from imdbtune.tracking.entities import Trial
from imdbtune.tracking.model_files import fetch_model

if TYPE_CHECKING:
    from imdbtune.tracking.connection import MlflowClient


def evaluate_trial(
    client: MlflowClient, trial: Trial, context: Context, progress: Progress | None = None
) -> dict[str, float]:
    """Evaluate a trial's model on the test reviews; log and return all metrics.

    If they have been logged already, they are returned without an evaluation.

    Args:
        progress: called with the number of evaluated reviews.

    Raises:
        UserError: the model or the reviews are missing.
    """
    names = [f"test_{name}" for name in trial.metric_names]
    logged = {name: trial.metrics[name] for name in names if name in trial.metrics}
    if len(logged) == len(names):
        return logged
    from imdbtune.models.own_metric import metrics_by_name
    from imdbtune.training.evaluation import evaluate_model

    corpus, _ = context.open_trial_corpus(trial)
    with tempfile.TemporaryDirectory() as folder:
        model = fetch_model(client, trial, Path(folder))
        source = needed_source(client, trial, model, context)
        metrics = evaluate_model(
            *(model, corpus.test, trial.params, trial.reads_padding, progress, source),
            metrics=metrics_by_name(trial.metric_names, find_metrics(client, trial, context)),
        )
    writer.Run(client, trial.run_id).log(metrics)
    search_id = reader.search_of(client, trial)
    if search_id:
        writer.count_test_evaluation(client, search_id)
    return metrics
