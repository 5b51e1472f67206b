"""The mean of several trained models as one model, built by a trainer that trains nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.data.batches import limit_rows, validation_split
from imdbtune.data.corpus import Split, read_corpus
from imdbtune.errors import UserError
from imdbtune.models.metrics.metric import measure
from imdbtune.models.metrics.predictions import is_right
from imdbtune.models.nb_linear import LinearModel, fit
from imdbtune.models.safe_load import load_keras
from imdbtune.training.evaluation import probabilities
from imdbtune.training.spec import NOT_MEASURED, OnEpoch, TrialResult, TrialSpec
from imdbtune.training.trial_metrics import confusion, find_metrics, resample_objective

if TYPE_CHECKING:
    import keras


def common_params(members: Sequence[TrialParams], linear: bool = False) -> TrialParams:
    """Return the ensemble's parameters: the first member's, but the longest maxlen and vocabulary.

    With a linear model both are the largest possible, as that model reads all words of a review.
    """
    values = members[0].as_dict()
    for name in ("maxlen", "vocabulary"):
        largest = max(int(params.as_dict()[name]) for params in members)
        values[name] = int(PARAMETERS[name].metadata["high"]) if linear else largest
    return TrialParams.from_values(values)


def fit_linear(reviews: Split, classes: int = 2) -> LinearModel:
    """Fit the linear model to all of these reviews, which takes half a minute.

    Args:
        reviews: the reviews.
        classes: number of their labels.

    Raises:
        UserError: these reviews allow none.
    """
    try:
        return fit(reviews, classes)
    except ValueError as error:
        raise UserError(f"no linear model: {error}; leave --with-linear out.") from error


@dataclass(frozen=True)
class EnsembleSpec:
    """Average the models in ``files``, and a linear model if there is one, instead of training.

    The history has one "epoch": the ensemble's metrics on the held-out reviews, or on all reviews
    if none are held out.
    """

    files: tuple[Path, ...]
    params: tuple[TrialParams, ...]
    linear: LinearModel | None = None

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """Build and measure the ensemble, as a trainer does."""
        from imdbtune.models.builders import averaged_model

        began = time.monotonic()
        members = [(load_keras(f), p) for f, p in zip(self.files, self.params, strict=True)]
        model = averaged_model(members, spec.params, self._linear_network(spec.params))
        spec.folder.mkdir(parents=True, exist_ok=True)
        path = spec.folder / "model.keras"
        model.save(path)
        train = read_corpus(spec.corpus).train
        count = limit_rows(len(train), spec.settings.reviews)
        rows = validation_split(count)[1] if spec.settings.hold_out else np.arange(count)
        predicted = probabilities(path, train, rows, spec.params, padded=False)
        prefix = "val_" if spec.settings.hold_out else ""
        found = measure(train.labels[rows], predicted, find_metrics(spec))
        right = is_right(train.labels[rows], predicted)
        seconds = time.monotonic() - began
        epoch = {"epoch": 1.0, **{prefix + k: v for k, v in found.items()}, "seconds": seconds}
        on_epoch(0, epoch)
        return TrialResult(
            history=(epoch,),
            best_epoch=1,
            scores=(epoch[spec.settings.measure],),
            seconds=seconds,
            parameter_count=int(model.count_params()),
            model=path,
            right=right[None] if spec.settings.hold_out else NOT_MEASURED,
            confusion=confusion(spec, predicted) if spec.settings.hold_out else None,
            draws=resample_objective(spec, predicted),
            objective=spec.settings.objective,
        )

    def _linear_network(self, common: TrialParams) -> keras.Model | None:
        from imdbtune.models.nb_linear_keras import as_table, linear_network

        return linear_network(as_table(self.linear, common.vocabulary)) if self.linear else None
