"""The model for training computes what the model of plain Keras layers does, in one compilation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.batches import Batches
from imdbtune.data.corpus import make_split
from imdbtune.models.builders import (
    as_plain,
    compile_model,
    create_variables,
    fused_model,
    plain_model,
    plain_weights,
)
from imdbtune.models.input_projection import EmbeddingLookup, ProjectedTable, embedded_words
from imdbtune.models.pad_at_back import PadAtBack
from imdbtune.training.fit_data import as_dataset
from tests.forked import Surroundings, environment_of, run_forked

MAXLEN, VOCABULARY = 9, 11
LENGTHS = (MAXLEN, 4, 1, 6, 0)

# Cell, layers, both directions?, pooling; more of the model
Case = tuple[str, int, bool, str, dict[str, Any]]
EACH_CELL: list[Case] = [(rnn, 2, True, "max_mean", {}) for rnn in CELLS]
STACKED: list[Case] = [(rnn, 2, False, "max", {}) for rnn in CELLS]
EVERYTHING: Case = ("gru", 1, False, "max_mean_attention", {"bigrams": 20, "layer_norm": True})
# Too many words to project them all.
LOOKED_UP: Case = ("lstm", 2, False, "last", {"vocabulary": 200})
REST: list[Case] = [
    ("gru", 1, True, "max_mean", {"bigrams": 20, "skip": True}),
    ("lstm", 1, False, "last", {"skip": True}),
    ("lstm", 2, True, "attention", {"layer_norm": True}),
    ("gru_v1", 1, True, "last", {}),
    ("simple_rnn", 1, True, "mean", {"vocabulary": 200}),
    EVERYTHING,
    LOOKED_UP,
]
# Each cell, each pooling, and both ways to look up words; not each with each.
COMPILED = [case for case in STACKED if case[0] not in ("gru", "lstm")] + [EVERYTHING, LOOKED_UP]


def params(
    rnn: str, depth: int, bidirectional: bool, pooling: str, more: dict[str, Any]
) -> TrialParams:
    sizes = {"vocabulary": VOCABULARY, "embedding": 3, "batch_size": 5}
    return TrialParams(rnn, depth, 4, MAXLEN, bidirectional, pooling, **(sizes | more))


def reviews(lengths: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.int32]:
    """Random ids, one row for each length, padded at the front."""
    ids = np.random.default_rng(seed).integers(1, VOCABULARY, (len(lengths), MAXLEN))
    ids[np.arange(MAXLEN)[None, :] < MAXLEN - np.array(lengths)[:, None]] = 0
    return ids.astype(np.int32)


def both_models(chosen: TrialParams) -> tuple[Any, Any]:
    """Both forms with the same weights."""
    fused, plain = fused_model(chosen), plain_model(chosen)
    set_weights(fused, plain)
    return fused, plain


def set_weights(*models: Any) -> None:
    """Give models the same weights, none of them zero, biases included."""
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 0.6, w.shape) for w in models[0].weights]
    for model in models:
        assert [w.shape for w in model.weights] == [w.shape for w in weights]
        model.set_weights(weights)


def outputs_and_gradients(model: Any, ids: Any) -> list[Any]:
    """The probabilities of a batch, and the gradient of a loss to each weight."""
    with tf.GradientTape() as tape:
        chance = model(ids, training=True)
        loss = tf.reduce_sum(chance * tf.range(1.0, 1.0 + len(ids))[:, None])
    gradients = tape.gradient(loss, [w.value for w in model.trainable_variables])
    return [chance, *(tf.convert_to_tensor(g) for g in gradients)]


@pytest.mark.parametrize("case", [*EACH_CELL, *STACKED, *REST], ids=str)
def test_outputs_and_gradients_are_those_of_the_keras_layers(case: Case) -> None:
    """Those of the loop, compiled (if it is one of the cases for that) and not."""
    fused, plain = both_models(params(*case))
    batches = [reviews(LENGTHS), reviews((3, 1, 2, 3, 1))]  # the second leaves columns empty
    theirs = [outputs_and_gradients(plain, ids) for ids in batches]
    names = ["output", *(w.path for w in plain.trainable_variables)]
    for jit in (False, True) if case in COMPILED else (False,):
        run = tf.function(partial(outputs_and_gradients, fused), jit_compile=jit)
        ours = [run(tf.constant(ids)) for ids in batches]
        for a_batch, the_same in zip(ours, theirs, strict=True):
            for name, a, b in zip(names, a_batch, the_same, strict=True):
                assert np.abs(b).max() > 1e-3, f"{name} is tested by nothing"
                np.testing.assert_allclose(
                    a, b, rtol=0, atol=1e-5, err_msg=f"{name}, {'compiled' if jit else 'traced'}"
                )


@pytest.mark.parametrize("case", [c for c in EACH_CELL + REST if CELLS[c[0]].has_cudnn], ids=str)
def test_padding_at_the_back_changes_nothing(case: Case) -> None:
    """The form for cuDNN: its recurrent layers get masks that cuDNN supports."""
    chosen, ids = params(*case), reviews(LENGTHS)
    plain, moved = plain_model(chosen), plain_model(chosen, for_cudnn=True)
    set_weights(plain, moved)
    theirs, ours = outputs_and_gradients(plain, ids), outputs_and_gradients(moved, ids)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    (layer,) = (layer for layer in moved.layers if isinstance(layer, PadAtBack))
    _, mask = layer.compute_mask([tf.constant(ids), tf.zeros((*ids.shape, 3))], None)
    assert mask.numpy().tolist() == [[t < length for t in range(MAXLEN)] for length in LENGTHS]


@pytest.mark.parametrize(("vocabulary", "kind"), [(20, ProjectedTable), (24, EmbeddingLookup)])
def test_only_a_small_vocabulary_is_projected_as_a_table(vocabulary: int, kind: type) -> None:
    """Small means at most half of the batch's 45 positions."""
    assert type(embedded_words(tf.zeros((vocabulary, 3)), tf.zeros((MAXLEN, 5), tf.int32))) is kind


@pytest.mark.parametrize("case", [*STACKED, ("gru", 2, True, "max_mean", {}), EVERYTHING], ids=str)
def test_predictions_do_not_depend_on_other_reviews(case: Case) -> None:
    fused, plain = both_models(params(*case))
    review = reviews((3,), seed=2)
    short, long = reviews((1, 2), seed=3), reviews((MAXLEN, 5), seed=4)
    alone = fused(review).numpy()[0]
    for company in (short, long):
        np.testing.assert_allclose(fused(np.concatenate([company, review]))[-1], alone, atol=1e-5)
    np.testing.assert_allclose(plain(review[:, -3:])[0], alone, atol=1e-5)
    padded = np.pad(review, [(0, 0), (20, 0)])
    np.testing.assert_allclose(plain(padded)[0], alone, atol=1e-5)
    assert np.abs(fused(reviews((3,), seed=5)).numpy()[0] - alone) > 1e-3


def test_a_trained_model_becomes_plain_without_its_seeds() -> None:
    chosen = TrialParams("gru", 2, 4, MAXLEN, True, "mean", VOCABULARY, 3, dropout=0.5)
    fused = compile_model(fused_model(chosen), chosen, jit=False)
    ids = reviews(LENGTHS)
    fused.train_on_batch(ids, np.ones((len(ids), 1)))
    expected = fused(ids, training=False)
    np.testing.assert_allclose(
        as_plain(plain_weights(fused), chosen)(ids, training=False), expected, atol=1e-5
    )


# XLA writes one file into its cache for every compilation.


def count_compilations(around: Surroundings, counts: Path) -> None:
    """In a forked process: write down how often XLA compiles, and how often a step is traced."""
    around.enter()

    def compilations() -> int:
        return len(list((around.folder / "compiled").iterdir()))

    chosen = TrialParams("simple_rnn", 1, 4, 20, vocabulary=30, embedding=3, batch_size=8)
    rng = np.random.default_rng(0)
    texts = [[1, *rng.integers(4, 30, rng.integers(1, 30))] for _ in range(100)]
    split = make_split(texts, rng.integers(0, 2, 100))
    batches = Batches(split, np.arange(100), 8, 20, 30)
    assert len({(ids != 0).any(axis=0).argmax() for ids, _, _ in batches.epoch()}) > 3
    model = compile_model(fused_model(chosen), chosen, jit=True)
    create_variables(model)
    step, traces = model.train_step, []
    model.train_step = lambda data: traces.append(data) or step(data)
    held_out = as_dataset(Batches(split, np.arange(50), 8, 20, 30))
    data = {"x": as_dataset(batches, rng), "validation_data": held_out, "shuffle": False}
    model.fit(**data, verbose=0)
    first = len(traces)
    model.fit(**data, verbose=0)
    ours = compilations()

    keras_own = compile_model(plain_model(chosen), chosen, jit=True)
    for length in (20, 10):
        keras_own.train_on_batch(np.ones((8, length), "int32"), np.ones((8, 1)))
    counts.write_text(f"{ours} {first} {len(traces) - first} {compilations() - ours}")


def test_batches_of_other_lengths_share_one_compilation(tmp_path: Path) -> None:
    cache, counts = tmp_path / "compiled", tmp_path / "counts"
    cache.mkdir()
    flags = {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={cache}"}
    known = environment_of(**flags, CUDA_VISIBLE_DEVICES="-1")
    errors = tmp_path / "errors"
    around = Surroundings(tmp_path, known, errors=errors)
    assert run_forked(count_compilations, around, counts) == 0, errors.read_text("utf-8")[-2000:]
    compiled, traced, traced_again, by_plain_layers = map(int, counts.read_text().split())
    assert compiled == 2  # one training step, one validation step
    assert (traced, traced_again) == (1, 0)
    assert by_plain_layers == 2  # plain layers are compiled for each length
