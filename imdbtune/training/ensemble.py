"""The mean or the mix of trained models as one model, built by a trainer that trains nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imdbtune.config.hyperparameters import PARAMETERS, TrialParams
from imdbtune.data.batches import Index, limit_rows, validation_split
from imdbtune.data.corpus import Corpus, Split, read_corpus
from imdbtune.errors import UserError
from imdbtune.models import mix_weights
from imdbtune.models.metrics.metric import measure
from imdbtune.models.metrics.predictions import is_right
from imdbtune.models.mix_weights import Floats
from imdbtune.models.nb_linear import LinearModel, as_table, predict
from imdbtune.models.nb_linear_cache import training_model
from imdbtune.models.safe_load import load_keras
from imdbtune.training.evaluation import probabilities
from imdbtune.training.spec import NOT_MEASURED, OnEpoch, TrialResult, TrialSpec
from imdbtune.training.trial_metrics import confusion, find_metrics, resample_objective


def common_params(members: Sequence[TrialParams], linear: bool = False) -> TrialParams:
    """Return the ensemble's parameters: the first member's, but the longest maxlen and vocabulary.

    With a linear model both are the largest possible, as that model reads all words of a review.
    """
    if linear:
        maxlen, vocabulary = (int(PARAMETERS[n].metadata["high"]) for n in ("maxlen", "vocabulary"))
    else:
        maxlen = max(params.maxlen for params in members)
        vocabulary = max(params.vocabulary for params in members)
    return replace(members[0], maxlen=maxlen, vocabulary=vocabulary)


def linear_model(corpus: Corpus, reviews: int, held_out: bool) -> LinearModel:
    """Return :func:`imdbtune.models.nb_linear_cache.training_model`.

    Raises:
        UserError: these reviews allow none.
    """
    try:
        return training_model(corpus, reviews, held_out)
    except ValueError as error:
        raise UserError(f"no linear model: {error}; leave --with-linear out.") from error


@dataclass(frozen=True)
class EnsembleSpec:
    """Average the models in ``files``, or mix them with a linear model, instead of training.

    The history has one "epoch": the metrics on the held-out reviews, or on all reviews if none are
    held out, and the weights of a mix.

    Args:
        files: of the models.
        params: hyperparameters of each.
        linear: trained on the same reviews as the models; ``None``: the mean of the models.
        weights: of a mix (:mod:`imdbtune.models.mix_weights`). Without any, they are fitted to the
            held-out reviews, and the metrics are those of cross-fitting.
    """

    files: tuple[Path, ...]
    params: tuple[TrialParams, ...]
    linear: LinearModel | None = None
    weights: tuple[float, ...] = ()

    def __call__(self, spec: TrialSpec, on_epoch: OnEpoch) -> TrialResult:
        """Build and measure the ensemble, as a trainer does."""
        began = time.monotonic()
        spec.folder.mkdir(parents=True, exist_ok=True)
        path = spec.folder / "model.keras"
        train = read_corpus(spec.corpus).train
        count = limit_rows(len(train), spec.settings.reviews)
        rows = validation_split(count)[1] if spec.settings.hold_out else np.arange(count)
        weights: dict[str, float] = {}
        if self.linear is None:
            parameters = self._save(path, spec)
            padded = spec.params.own is not None
            predicted = probabilities(path, train, rows, spec.params, padded, source=spec.source)
        else:
            fitted, predicted = self._mix(self.linear, train, rows)
            weights = mix_weights.as_metrics(fitted)
            parameters = self._save(path, spec, fitted)
        prefix = "val_" if spec.settings.hold_out else ""
        found = measure(train.labels[rows], predicted, find_metrics(spec))
        right = is_right(train.labels[rows], predicted)
        seconds = time.monotonic() - began
        metrics = {prefix + name: value for name, value in found.items()}
        epoch = {"epoch": 1.0, **metrics, **weights, "seconds": seconds}
        on_epoch(0, epoch)
        return TrialResult(
            history=(epoch,),
            best_epoch=1,
            scores=(epoch[spec.settings.measure],),
            seconds=seconds,
            parameter_count=parameters,
            model=path,
            right=right[None] if spec.settings.hold_out else NOT_MEASURED,
            confusion=confusion(spec, predicted) if spec.settings.hold_out else None,
            draws=resample_objective(spec, predicted),
            objective=spec.settings.objective,
        )

    def _mix(self, linear: LinearModel, train: Split, rows: Index) -> tuple[Floats, Floats]:
        """Return the two weights, and the probabilities of the reviews ``rows``."""
        answers = [
            probabilities(file, train, rows, params, padded=False)
            for file, params in zip(self.files, self.params, strict=True)
        ]
        by_words = predict(linear, train.part(int(rows[0]), int(rows[-1]) + 1))
        logits, labels = mix_weights.logits_of_mix(answers, by_words), train.labels[rows]
        if self.weights:
            fixed = np.array(self.weights)
            return fixed, mix_weights.mix(logits, fixed)
        return mix_weights.fit_weights(logits, labels), mix_weights.cross_fitted(logits, labels)

    def _save(self, path: Path, spec: TrialSpec, weights: Floats | None = None) -> int:
        """Save the model, and return the number of its parameters."""
        from imdbtune.models.ensembles import averaged_model, mixed_model
        from imdbtune.models.nb_linear_keras import linear_network

        models = [load_keras(file, spec.source) for file in self.files]
        members, common = list(zip(models, self.params, strict=True)), spec.params
        if self.linear is None or weights is None:
            model = averaged_model(members, common)
        else:
            network = linear_network(as_table(self.linear))
            model = mixed_model(members, common, network, weights.tolist())
        model.save(path)
        return int(model.count_params())
