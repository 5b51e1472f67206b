"""Several trained models as one Keras model: their mean, or a mix with a linear model."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import OOV
from imdbtune.models.mix_weights import EPSILON
from imdbtune.models.nb_linear_keras import LINEAR
from imdbtune.models.tensors import Tensor

MIX = "mix"  # the layer with the weights of a mixed_model


def averaged_model(
    members: Sequence[tuple[keras.Model, TrialParams]], common: TrialParams
) -> keras.Model:
    """Return the mean of models as one model.

    Args:
        members: the models, and the hyperparameters of each: all plain, masked models, or all of a
            user's own.
        common: its ``maxlen`` and ``vocabulary`` are those of the ids that the mean reads, and at
            least as large as each member's. A member reads only its own last ``maxlen`` ids, with
            ids beyond its vocabulary as the unknown word.

    Returns:
        Ids (batch, time) int32 to probabilities, as the members; of users' own models, time is the
        largest ``maxlen``.
    """
    ids = keras.Input((common.maxlen if common.own else None,), dtype="int32", name="ids")
    probabilities = _member_probabilities(ids, members, common)
    if probabilities[0].shape[-1] == 1:
        mean = ops.mean(ops.concatenate(probabilities, axis=-1), axis=-1, keepdims=True)
    else:
        mean = ops.mean(ops.stack(probabilities), axis=0)
    return keras.Model(ids, mean, name="ensemble")


def mixed_model(
    members: Sequence[tuple[keras.Model, TrialParams]],
    common: TrialParams,
    linear: keras.Model,
    weights: Sequence[float],
) -> keras.Model:
    """Return a mix of plain, masked models and a linear one as one model of plain layers.

    Args:
        members, common: those of :func:`averaged_model`.
        linear: reads all ids.
        weights: of the members' mean logit, and of the linear model's.

    Returns:
        Ids (batch, time) int32 to probabilities (batch, 1).
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    probabilities = [*_member_probabilities(ids, members, common), linear(ids)]
    clipped = ops.clip(ops.concatenate(probabilities, axis=-1), EPSILON, 1 - EPSILON)
    logits = ops.log(clipped / (1 - clipped))
    mix = layers.Dense(1, activation="sigmoid", use_bias=False, name=MIX)
    model = keras.Model(ids, mix(logits), name="ensemble")
    each, of_linear = weights[0] / len(members), weights[1]
    mix.set_weights([np.array([*[each] * len(members), of_linear], np.float32)[:, None]])
    return model


def _member_probabilities(
    ids: Tensor, members: Sequence[tuple[keras.Model, TrialParams]], common: TrialParams
) -> list[Tensor]:
    probabilities = []
    for number, (model, params) in enumerate(members, start=1):
        member_ids = ids if params.maxlen == common.maxlen else ids[:, -params.maxlen :]
        if params.vocabulary < common.vocabulary:
            member_ids = ops.where(ops.less(member_ids, params.vocabulary), member_ids, OOV)
        read, result = _ends(model, params)
        member = keras.Model(read, result, name=f"member_{number}")
        probabilities.append(member(member_ids))
    return probabilities


def _ends(model: keras.Model, params: TrialParams) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a model; a user's own may be a class without them."""
    if params.own is None:
        return model.input, model.output
    ids = keras.Input((params.maxlen,), dtype="int32")
    return ids, model(ids)


def member_models(model: keras.Model) -> list[keras.Model]:
    """Return the recurrent members of an ensemble or a mix; ``[]`` for other models."""
    return [inner for inner in _inner_models(model) if inner.name != LINEAR]


def linear_part(model: keras.Model) -> keras.Model | None:
    """Return the linear model of a :func:`mixed_model`; ``None`` for other models."""
    return next((inner for inner in _inner_models(model) if inner.name == LINEAR), None)


def weights_of_mix(model: keras.Model) -> npt.NDArray[np.float32]:
    """Return the weight of each logit in a :func:`mixed_model`, (models, 1), the linear one last.

    Raises:
        ValueError: it is no such model.
    """
    return np.asarray(model.get_layer(MIX).get_weights()[0])


def _inner_models(model: keras.Model) -> list[keras.Model]:
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]
