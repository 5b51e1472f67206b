"""The Keras model of a trial: new, with its initial weights; and saved, with the trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imdbtune.config.extensions import CELLS
from imdbtune.data.corpus import read_corpus
from imdbtune.models.builders import (
    as_plain,
    fused_model,
    initialize,
    plain_model,
    with_ngrams,
)
from imdbtune.models.ngram_inputs import input_table
from imdbtune.models.ppmi_vectors import ppmi_vectors
from imdbtune.training.fit_data import class_count, training_reviews
from imdbtune.training.out_of_fold import whole_model
from imdbtune.training.saved_state import Array
from imdbtune.training.spec import TrialSpec


def new_model(spec: TrialSpec, seed: int, compiled: bool) -> keras.Model:
    """Return a model with its initial weights: the fused form where the steps are compiled."""
    if spec.source is not None:
        from imdbtune.models.own_source import build_own

        model = build_own(spec.source, spec.params, seed)
        keras.utils.set_random_seed(seed)  # for the random numbers of its own code
        return model
    classes = class_count(spec)
    if spec.settings.batching == "padded":
        model = plain_model(spec.params, masked=False, seed=seed, classes=classes)
    elif compiled:
        model = fused_model(spec.params, seed, classes)
    else:
        cudnn = can_use_cudnn(spec)
        model = plain_model(
            spec.params, seed=seed, for_training=True, classes=classes, for_cudnn=cudnn
        )
    initialize(model, seed, _word_vectors(spec))
    return model


def _word_vectors(spec: TrialSpec) -> npt.NDArray[np.float32] | None:
    """Return what the word vectors start from; ``None``: random ones."""
    params = spec.params
    if params.word_vectors == "random":
        return None
    return ppmi_vectors(training_reviews(spec), params.vocabulary, params.embedding)


def can_use_cudnn(spec: TrialSpec) -> bool:
    """Return whether cuDNN computes the recurrent layers of a training that is not compiled.

    It cannot mask a review without words, which an own corpus may have.
    """
    if spec.source is not None or not CELLS[spec.params.rnn].has_cudnn:
        return False
    if not tf.config.list_physical_devices("GPU"):
        return False
    return spec.settings.batching == "padded" or bool(read_corpus(spec.corpus).train.lengths.all())


def save_model(weights: Sequence[Array], spec: TrialSpec, path: Path) -> keras.Model:
    """Save and return the model with these weights."""
    if spec.source is None:
        if spec.params.ngrams:
            table = input_table(whole_model(spec))
            weights = with_ngrams(weights, spec.params, table)
        model = as_plain(weights, spec.params, masked=spec.settings.batching == "buckets")
        model.save(path)
        return model
    from imdbtune.models.own_source import build_own, save_own

    keras.backend.clear_session()
    model = build_own(spec.source, spec.params, spec.settings.seed)
    model.set_weights(weights)
    save_own(model, path, class_count(spec))
    return model
