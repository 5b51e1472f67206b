"""The metrics of a trial: which are measured, how they are recorded, and how certain one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imdbtune.data.corpus import read_corpus
from imdbtune.errors import TrialFailed, UserError
from imdbtune.models.metrics import bootstrap
from imdbtune.models.metrics.predictions import predicted_labels
from imdbtune.models.own_metric import metrics_by_name
from imdbtune.training.callbacks import CorrectnessRecorder, MetricsRecorder
from imdbtune.training.confusion import Confusion, confusion_of
from imdbtune.training.fit_data import rows_per_epoch, validation_order, validation_rows

if TYPE_CHECKING:
    from imdbtune.models.metrics.metric import Floats, Metric
    from imdbtune.training.spec import TrialSpec


def find_metrics(spec: TrialSpec) -> dict[str, Metric]:
    """Return all metrics of a trial by name.

    Raises:
        TrialFailed: one of the user's own cannot be run.
    """
    try:
        return metrics_by_name(spec.settings.metric_names, spec.code.metrics)
    except UserError as error:
        raise TrialFailed(str(error)) from error


def resampled_metric(spec: TrialSpec) -> Metric | None:
    """Return the metric of the objective if no formula gives its standard error.

    ``None`` for the accuracy, and for the loss, whose trials are compared by their accuracy.
    """
    name = spec.settings.objective.removeprefix("val_")
    metric = find_metrics(spec)[name]
    known = name == "loss" or metric.standard_error is not None or not spec.settings.hold_out
    return None if known else metric


def make_recorder(spec: TrialSpec, outputs: int) -> CorrectnessRecorder:
    """Return the callback that records the predictions of a trial, as far as they are needed.

    Those of more than two labels are needed for the confusion matrix.

    Args:
        outputs: of the model.
    """
    order = validation_order(spec)
    metrics = find_metrics(spec)
    recorded = {n: m for n, m in metrics.items() if n != "loss" and m.in_keras is None}
    if not recorded and resampled_metric(spec) is None and outputs == 1:
        return CorrectnessRecorder(order)
    settings = spec.settings
    chooses = settings.hold_out and settings.keep_best
    goal = (settings.objective, spec.sign) if chooses else None
    return MetricsRecorder(order, recorded, rows_per_epoch(spec), outputs, goal)


def resample_objective(spec: TrialSpec, predicted: Floats) -> Floats | None:
    """Return draws of the objective, see :func:`imdbtune.models.metrics.bootstrap.resample`.

    ``None`` if a formula gives its standard error.

    Args:
        predicted: probabilities of the validation reviews, in the order of the corpus.
    """
    metric = resampled_metric(spec)
    if metric is None or not len(predicted):
        return None
    labels = np.asarray(read_corpus(spec.corpus).train.labels[validation_rows(spec)], np.int64)
    return bootstrap.resample(metric, labels, predicted)


def confusion(spec: TrialSpec, predicted: Floats) -> Confusion | None:
    """Return the confusion matrix of the validation reviews.

    ``None`` for two labels, or without predictions.

    Args:
        spec: of the trial.
        predicted: probabilities of the validation reviews, in the order of the corpus.
    """
    if predicted.ndim == 1:
        return None
    corpus = read_corpus(spec.corpus)
    labels = corpus.train.labels[validation_rows(spec)]
    return confusion_of(labels, predicted_labels(predicted), corpus.labels)
