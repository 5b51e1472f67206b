"""Small real trainings: 240 reviews of some of 60 words, one of which decides the label."""

from __future__ import annotations

import functools
import math
import pickle
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from imdbtune.cluster.local_executor import thread_environment
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.objectives import FOLDS_MEAN
from imdbtune.data.batches import Batches, pad, validation_split
from imdbtune.data.corpus import START, Corpus, NewCorpus, make_split, write_corpus
from imdbtune.errors import TrialFailed
from imdbtune.models.builders import (
    MANY_STEPS,
    STEPS_PER_CALL,
    compile_model,
    create_variables,
    fused_model,
    initialize,
    plain_model,
    plain_weights,
)
from imdbtune.models.pad_at_back import PadAtBack
from imdbtune.models.ppmi_vectors import ppmi_vectors
from imdbtune.training.evaluation import probabilities
from imdbtune.training.fit_data import as_dataset
from imdbtune.training.new_model import new_model
from imdbtune.training.saved_state import load_state, save_state
from imdbtune.training.soft_labels import soft_labels
from imdbtune.training.spec import Epoch, TrainingSettings, TrialResult, TrialSpec
from imdbtune.training.trainer import (
    should_compile,
    train_trial,
)
from tests.forked import Surroundings, environment_of, run_code, run_forked

REVIEWS, WORDS, MAXLEN = 240, 60, 20
GOOD = 4  # the word
HELD_OUT = REVIEWS // 5


def small_corpus(folder: Path, separable: bool) -> Corpus:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, REVIEWS)
    reviews = []
    for label in labels:
        review = rng.integers(GOOD + 1, WORDS, rng.integers(4, 30))
        if separable and label:
            review[rng.integers(0, len(review), 4)] = GOOD
        reviews.append([START, *review])
    half = make_split(reviews, labels)
    return write_corpus(folder, NewCorpus("small", "A small corpus", half, half, {}))


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("easy") / "corpus", separable=True)


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Labels that are independent of the words: training only overfits."""
    return small_corpus(tmp_path_factory.mktemp("hopeless") / "corpus", separable=False)


def with_settings(spec: TrialSpec, **settings: Any) -> TrialSpec:
    return replace(spec, settings=replace(spec.settings, **settings))


def small_spec(corpus: Corpus, folder: Path, **changed: Any) -> TrialSpec:
    """A trial of a few seconds; ``changed`` fields of the spec or of its parameters."""
    names = TrainingSettings.__dataclass_fields__
    settings = {name: changed.pop(name) for name in list(changed) if name in names}
    own = {name: changed.pop(name) for name in ("state", "keep_state") if name in changed}
    params = TrialParams(
        rnn="simple_rnn", units=8, maxlen=MAXLEN, vocabulary=WORDS, embedding=4, pooling="max",
        batch_size=16, optimizer="adam", learning_rate=0.03,
    )  # fmt: skip
    return TrialSpec(
        replace(params, **changed),
        corpus.folder,
        folder,
        TrainingSettings(**{"epochs": 3, "compile": "off", **settings}),
        **own,
    )


def without_seconds(history: tuple[Epoch, ...]) -> list[Epoch]:
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history]


@pytest.mark.parametrize("batching", ["buckets", "padded"])
def test_training_reaches_a_high_accuracy_on_separable_reviews(
    batching: str, easy: Corpus, tmp_path: Path
) -> None:
    """Compiled ones learn the same: see the tests of soft labels and of a saved state."""
    spec = small_spec(easy, tmp_path, batching=batching, keep_state=True)
    reported: list[tuple[int, Epoch]] = []
    result = train_trial(spec, lambda execution, epoch: reported.append((execution, epoch)))
    assert result.best["val_accuracy"] > 0.9
    assert result.score == result.best["val_accuracy"]
    assert result.history[0]["loss"] > result.history[-1]["loss"]
    assert [epoch["epoch"] for epoch in result.history] == [1, 2, 3]
    assert reported == [(0, epoch) for epoch in result.history]
    assert result.parameter_count == WORDS * 4 + 8 * (4 + 8 + 1) + 8 + 1
    assert result.state is not None
    assert steps_taken(result.state) == 3 * (REVIEWS - HELD_OUT) / 16


def test_each_fold_is_held_out_once(easy: Corpus, tmp_path: Path) -> None:
    spec = small_spec(easy, tmp_path, folds=3, fold_seed=5, batch_size=32, learning_rate=0.06)
    reported: list[tuple[int, Epoch]] = []
    result = train_trial(spec, lambda execution, epoch: reported.append((execution, epoch)))
    assert len(result.scores) == len(result.folds) == 3
    assert result.score == pytest.approx(np.mean(result.scores))
    assert result.best["val_accuracy"] == pytest.approx(result.score)
    assert result.standard_error == pytest.approx(np.std(result.scores, ddof=1) / 3**0.5)
    # All reviews have been classified by a model that had not seen them.
    assert result.right.shape == (1, REVIEWS)
    folds = spec.settings.division.assign(easy.train.labels)
    for fold, score in enumerate(result.scores):
        assert result.right[0, folds == fold].mean() == pytest.approx(score)
    assert sum(group.reviews for group in result.by_length) == REVIEWS
    means = {number: e[FOLDS_MEAN] for number, e in reported if FOLDS_MEAN in e}
    assert means == pytest.approx({n: np.mean(result.scores[: n + 1]) for n in range(3)})


def test_a_cross_validation_is_pruned_after_a_fold(easy: Corpus, tmp_path: Path) -> None:
    """What ends it within a later fold, as a deadline does, leaves the whole ones."""
    spec = small_spec(easy, tmp_path, folds=3, epochs=2, batch_size=32)
    pruned = train_trial(spec, lambda execution, epoch: execution == 1 and FOLDS_MEAN in epoch)
    cut = train_trial(spec, lambda execution, epoch: execution == 1)
    for result, whole in ((pruned, 2), (cut, 1)):
        assert (result.pruned_after, len(result.scores), len(result.folds)) == (whole,) * 3
        assert not len(result.right)
        assert not result.by_length
    assert pruned.scores[:1] == cut.scores


def test_steps_that_share_a_call_train_as_single_ones(easy: Corpus) -> None:
    """The last call of an epoch has fewer steps than the others."""
    params = small_spec(easy, Path(), batch_size=10, optimizer="sgd").params
    histories, weights, calls = [], [], []
    for steps in (MANY_STEPS - 1, MANY_STEPS):
        model = plain_model(params)
        initialize(model, seed=1)
        compile_model(model, params, jit=False, steps=steps)
        calls.append(model.steps_per_execution)
        batches = as_dataset(Batches(easy.train, np.arange(180), 10, MAXLEN, WORDS))
        data = {"x": batches, "validation_data": batches, "shuffle": False}
        histories.append(model.fit(**data, epochs=2, verbose=0).history)
        weights.append(model.get_weights())
    assert calls == [1, STEPS_PER_CALL]
    assert len(batches) > STEPS_PER_CALL
    assert len(batches) % STEPS_PER_CALL
    assert int(model.optimizer.iterations) == 2 * len(batches)
    assert histories[0] == pytest.approx(histories[1], abs=1e-6)
    for single, shared in zip(*weights, strict=True):
        np.testing.assert_allclose(shared, single, atol=1e-6)


FAULTS = """
import resource, sys
from pathlib import Path
import numpy as np
from imdbtune.data.corpus import NewCorpus, make_split, write_corpus
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.training.spec import TrainingSettings, TrialSpec
from imdbtune.training.trainer import train_trial

folder = Path(sys.argv[1])
words = np.random.default_rng(0).integers(4, 30, (1280, 100))
half = make_split(words, np.arange(1280) % 2)
corpus = write_corpus(folder / "corpus", NewCorpus("long", "Long reviews", half, half, {}))
faults = []
spec = TrialSpec(
    TrialParams(maxlen=500, vocabulary=30), corpus.folder, folder,
    TrainingSettings(epochs=2, compile="on", hold_out=False),
)
train_trial(spec, lambda *_: faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt))
print((faults[-1] - faults[-2]) // 10)
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="how pages are counted is Linux's own")
def test_a_step_takes_no_new_pages_from_the_system(tmp_path: Path) -> None:
    """It needs 90 MB for a moment: 20,000 pages, which take as long as the step itself."""
    output, errors = tmp_path / "output", tmp_path / "errors"
    known = environment_of(**thread_environment(1), CUDA_VISIBLE_DEVICES="-1")
    around = Surroundings(tmp_path, known, output, errors)
    status = run_forked(run_code, around, FAULTS, str(tmp_path))
    assert status == 0, errors.read_text("utf-8")[-2000:]
    assert int(output.read_text("utf-8")) < 1000


# Batches are smaller or larger than the validation reviews, and the last one of a pass is smaller.
OVERFITTED: dict[str, dict[str, Any]] = {
    "compiled": {"compile": "on", "batch_size": 11},
    "averaged": {"batch_size": 11, "ema": 0.95, "learning_rate": 0.1},
    "one batch": {"objective": "val_accuracy", "batch_size": 500, "learning_rate": 0.1},
    "padded": {"batching": "padded", "batch_size": 11},
    "padded, one batch": {"batching": "padded", "batch_size": 500, "learning_rate": 0.3},
}
PATIENCE = 2


@dataclass(frozen=True)
class Trained:
    """A training that stopped early, since it only overfits."""

    spec: TrialSpec
    result: TrialResult


def overfits(*kinds: str) -> pytest.MarkDecorator:
    """Parametrise ``overfitted``; tests of one kind run in one process, which trains it once."""
    marked = [pytest.param(k, marks=pytest.mark.xdist_group(f"overfitted {k}")) for k in kinds]
    return pytest.mark.parametrize("kind", marked)


@pytest.fixture(scope="module")
def overfit(hopeless: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    @functools.cache
    def trained(kind: str) -> Trained:
        settings = {"epochs": 12, "patience": PATIENCE, "objective": "val_loss", "keep_state": True}
        folder = tmp_path_factory.mktemp("overfitted")
        spec = small_spec(hopeless, folder, **{**settings, **OVERFITTED[kind]})
        return Trained(spec, train_trial(spec))

    return trained


@pytest.fixture
def overfitted(kind: str, overfit: Callable[[str], Trained]) -> Trained:
    return overfit(kind)


@overfits(*OVERFITTED)
def test_the_saved_model_is_that_of_the_best_epoch(overfitted: Trained, hopeless: Corpus) -> None:
    result, objective = overfitted.result, overfitted.spec.settings.objective
    values = [epoch[objective] for epoch in result.history]
    wanted = max(values) if objective == "val_accuracy" else min(values)
    assert result.best_epoch == values.index(wanted) + 1
    assert len(values) == result.best_epoch + PATIENCE < 12
    assert result.compiled is (overfitted.spec.settings.compile == "on")
    loss, accuracy = saved_values(result, hopeless)
    assert accuracy == pytest.approx(result.best["val_accuracy"], abs=1e-6)
    assert loss == pytest.approx(result.best["val_loss"], abs=1e-6)


@overfits(*OVERFITTED)
def test_the_state_is_that_of_the_last_epoch_not_of_the_best(overfitted: Trained) -> None:
    """After as many steps as Keras says, where the last batch is a smaller one."""
    result = overfitted.result
    assert result.state is not None
    embedding = keras.models.load_model(result.model).get_weights()[0]
    assert np.abs(embedding - state(result.state)[0]).max() > 1e-3
    steps = math.ceil((REVIEWS - HELD_OUT) / overfitted.spec.params.batch_size)
    assert steps_taken(result.state) == len(result.history) * steps


@overfits(*OVERFITTED)
def test_it_tells_which_validation_reviews_are_classified_right_after_each_epoch(
    overfitted: Trained, hopeless: Corpus
) -> None:
    spec, result = overfitted.spec, overfitted.result
    assert result.right.shape == (len(result.history), HELD_OUT)
    accuracies = [epoch["val_accuracy"] for epoch in result.history]
    np.testing.assert_allclose(result.right.mean(axis=1), accuracies, atol=1e-6)
    rows = validation_split(REVIEWS)[1]
    padded = spec.settings.batching == "padded"
    predicted = probabilities(result.model, hopeless.train, rows, spec.params, padded) > 0.5
    expected = predicted == (hopeless.train.labels[rows] == 1)
    np.testing.assert_array_equal(result.right[result.best_epoch - 1], expected)
    mean = np.average(
        [group.accuracy for group in result.by_length],
        weights=[group.reviews for group in result.by_length],
    )
    assert mean == pytest.approx(expected.mean())


def saved_values(result: TrialResult, corpus: Corpus) -> tuple[float, float]:
    """The loss and the accuracy of the saved model for the validation reviews."""
    _, held_out = validation_split(REVIEWS)
    ids = pad(corpus.train, held_out, MAXLEN, WORDS)
    saved = keras.models.load_model(result.model)
    loss, accuracy = saved.evaluate(ids, corpus.train.labels[held_out], verbose=0)
    return loss, accuracy


@overfits("averaged", "one batch", "padded")
def test_a_pruned_trial_ends_as_one_that_stops_early(overfitted: Trained, tmp_path: Path) -> None:
    """It is stopped after the epoch after which the patience of the other one ends."""
    early, objective = overfitted.result, overfitted.spec.settings.objective
    sign = 1 if objective == "val_accuracy" else -1
    values: list[float] = []

    def stop_when_worse(execution: int, epoch: Epoch) -> bool:
        values.append(sign * epoch[objective])
        return len(values) > values.index(max(values)) + PATIENCE

    spec = with_settings(overfitted.spec, executions=2, patience=0)
    pruned = train_trial(replace(spec, folder=tmp_path), stop_when_worse)
    assert 1 < pruned.pruned_after == len(pruned.history) < 12
    assert early.pruned_after == 0
    assert without_seconds(pruned.history) == without_seconds(early.history)
    assert pruned.scores == early.scores  # no second execution
    assert pruned.best_epoch == early.best_epoch < pruned.pruned_after
    weights = [
        keras.models.load_model(result.model, compile=False).get_weights()
        for result in (pruned, early)
    ]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@overfits("averaged")
def test_averaged_weights_are_validated_and_the_training_is_the_same(
    overfitted: Trained, tmp_path: Path
) -> None:
    """That they are saved as well, the test of saved models shows."""
    averaged = overfitted.result
    # An average over the last step alone is nearly the weights themselves.
    params = replace(overfitted.spec.params, ema=0.0001)
    spec = replace(overfitted.spec, folder=tmp_path, params=params)
    without = train_trial(with_settings(spec, epochs=2))
    for epoch, same in zip(without.history, averaged.history[:2], strict=True):
        # Keras swaps weights and averages by sums and differences, which round the weights.
        assert epoch["loss"] == pytest.approx(same["loss"], rel=1e-4)
        assert abs(epoch["val_loss"] - same["val_loss"]) > 0.01


@overfits("one batch")
def test_without_a_choice_of_the_epoch_the_last_one_counts(
    overfitted: Trained, hopeless: Corpus, tmp_path: Path
) -> None:
    best = overfitted.result
    spec = with_settings(overfitted.spec, keep_best=False, patience=0, epochs=len(best.history))
    last = train_trial(replace(spec, folder=tmp_path))
    assert without_seconds(last.history) == without_seconds(best.history)
    assert last.best_epoch == len(best.history)
    assert last.scores == (last.history[-1]["val_accuracy"],)
    assert best.scores[0] > last.scores[0]
    end = last.history[-1]
    assert saved_values(last, hopeless) == pytest.approx((end["val_loss"], end["val_accuracy"]))


def test_soft_labels_are_learned_and_the_accuracy_is_that_of_hard_labels(
    easy: Corpus, tmp_path: Path
) -> None:
    spec = small_spec(easy, tmp_path, compile="on", soft_labels=0.5, crop=15, epochs=5)
    result = train_trial(spec)
    assert result.best["accuracy"] > 0.65  # the word may lie outside
    assert result.best["val_accuracy"] > 0.85
    targets = soft_labels(easy.folder, REVIEWS - HELD_OUT, 0.5)
    assert targets is not None
    entropy = -(targets * np.log(targets) + (1 - targets) * np.log(1 - targets)).mean()
    assert result.history[-1]["loss"] > entropy > 0.05  # the least that there can be
    assert keras.models.load_model(result.model).metrics_names == ["loss", "compile_metrics"]


def test_an_epoch_does_not_depend_on_prefetching_of_the_previous_one(easy: Corpus) -> None:
    """Keras reads a batch, to see its shape, before it starts over."""
    batches = Batches(easy.train, np.arange(200), 4, MAXLEN, WORDS)

    def second_epoch(read_of_the_first: int) -> list[Any]:
        dataset = as_dataset(replace(batches, word_dropout=0.3), np.random.default_rng(3))
        for _ in zip(range(read_of_the_first), dataset, strict=False):
            pass
        return [ids.numpy().tolist() for ids, _, _ in dataset]

    assert second_epoch(1) == second_epoch(len(batches)) == second_epoch(10)


def state(path: Path) -> list[npt.NDArray[Any]]:
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def steps_taken(path: Path) -> int:
    (iterations,) = (int(a) for a in state(path) if a.shape == () and a.dtype == np.int64)
    return iterations


def one_step_an_epoch(corpus: Corpus, folder: Path, **changed: Any) -> TrialSpec:
    """So that the order of the reviews, which a resumed training starts again, does not matter."""
    return small_spec(corpus, folder, batch_size=192, keep_state=True, **changed)


# Averaged weights are a state of their own, and the rate anneals over all that continue each other.
WITH_STATE = {
    **{"ema": 0.5, "bigrams": 30, "weight_decay": 0.01, "clip_norm": 1.0},
    **{"schedule": "cosine", "warmup": 0.2, "schedule_epochs": 3},
}


def test_a_training_continues_from_a_saved_state(easy: Corpus, tmp_path: Path) -> None:
    """In the compiled form, though it started in the other."""
    spec = one_step_an_epoch(easy, tmp_path / "whole", **WITH_STATE)
    uninterrupted = train_trial(spec)
    begun = train_trial(with_settings(replace(spec, folder=tmp_path / "begun"), epochs=2))
    rest = replace(spec, folder=tmp_path / "rest", state=begun.state)
    resumed = train_trial(with_settings(rest, compile="on", initial_epoch=2))

    assert uninterrupted.state
    assert resumed.state
    assert steps_taken(uninterrupted.state) == steps_taken(resumed.state) == 3
    for expected, found in zip(state(uninterrupted.state), state(resumed.state), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    expected_epochs = without_seconds(uninterrupted.history)
    (epoch,) = without_seconds(resumed.history)
    assert epoch == pytest.approx(expected_epochs[2], abs=1e-5)
    assert epoch != pytest.approx(expected_epochs[0] | {"epoch": 3.0}, abs=1e-3)


@pytest.mark.parametrize("order", [(plain_model, fused_model), (fused_model, plain_model)])
def test_a_state_fits_both_forms_of_a_model(order: tuple[Any, Any], tmp_path: Path) -> None:
    params = TrialParams("gru", 2, 3, 5, True, "max", 7, 2, dropout=0.5, optimizer="adam")
    first, second = (compile_model(form(params), params, jit=False) for form in order)
    create_variables(first)
    rng = np.random.default_rng(0)
    for variable in [*first.trainable_variables, *first.optimizer.variables[2:]]:
        variable.assign(rng.normal(size=variable.shape))
    first.optimizer.iterations.assign(1)
    save_state(first, tmp_path / "state.npz")
    load_state(second, tmp_path / "state.npz")
    assert int(second.optimizer.iterations) == 1
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(first.optimizer.variables, second.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("compile", ["on", "off"])
def test_a_loss_that_is_not_finite_fails_the_trial(
    compile: str, easy: Corpus, tmp_path: Path
) -> None:
    reported: list[Epoch] = []
    settings: dict[str, Any] = {"compile": compile, "initial_epoch": 2, "epochs": 4}
    spec = one_step_an_epoch(easy, tmp_path / "b", learning_rate=3e38, **settings)
    with pytest.raises(TrialFailed, match=r"^\w+ became (nan|inf) in epoch 3\.$"):
        train_trial(spec, lambda _, epoch: reported.append(epoch))
    assert [epoch["epoch"] for epoch in reported] == [3]
    assert not (tmp_path / "b" / "model.keras").exists()


def test_a_limit_of_reviews_uses_the_first_ones(easy: Corpus, tmp_path: Path) -> None:
    """Spec and result travel between processes."""
    spec = small_spec(easy, tmp_path, reviews=100, epochs=1, keep_state=True)
    result = train_trial(pickle.loads(pickle.dumps(spec)))
    assert pickle.loads(pickle.dumps(result)) == result
    assert result.state is not None
    assert steps_taken(result.state) == 5  # 80 reviews, 16 at a time
    rights = result.history[0]["val_accuracy"] * 20
    assert rights == pytest.approx(round(rights), abs=1e-4)


@pytest.mark.parametrize(
    ("changed", "compiled"),
    [
        ({"compile": "on", "epochs": 1}, True),
        ({"compile": "off", "epochs": 10_000}, False),
        ({"compile": "auto", "epochs": 1}, False),
        ({"compile": "auto", "epochs": 10_000}, True),
        ({"compile": "auto", "epochs": 10_000, "initial_epoch": 9_999}, False),
        ({"compile": "auto", "epochs": 10_000, "reviews": 2, "initial_epoch": 9_600}, False),
    ],
)
def test_it_compiles_if_that_saves_time(
    changed: dict[str, Any], compiled: bool, easy: Corpus
) -> None:
    assert should_compile(small_spec(easy, Path(), **changed)) is compiled


def pretend_gpu(patch: pytest.MonkeyPatch) -> None:
    """Keras itself asks for GPUs in another way, and finds none."""
    patch.setattr(tf.config, "list_physical_devices", lambda kind=None: [f"/{kind}:0"])


@pytest.mark.parametrize("rnn", ["lstm", "simple_rnn"])
def test_with_a_gpu_layers_that_cudnn_knows_are_not_compiled(
    rnn: str, easy: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch)
    spec = small_spec(easy, Path(), epochs=10_000, rnn=rnn, compile="auto")
    assert should_compile(spec) is (rnn == "simple_rnn")
    has_moved = any(isinstance(layer, PadAtBack) for layer in new_model(spec, 0, False).layers)
    assert has_moved is (rnn == "lstm")


def test_with_padding_at_the_back_a_trial_trains_as_without(
    easy: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(easy, tmp_path, compile="off", rnn="lstm", reviews=200, epochs=2)
    expected = without_seconds(train_trial(spec).history)
    pretend_gpu(monkeypatch)
    for ours, theirs in zip(without_seconds(train_trial(spec).history), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("compile", ["on", "off"])
def test_word_vectors_start_from_those_of_the_training_reviews(
    compile: str, easy: Corpus, tmp_path: Path
) -> None:
    spec = small_spec(easy, tmp_path, word_vectors="ppmi", compile=compile)
    start = plain_weights(new_model(spec, 0, compile == "on"))[0]
    params = spec.params
    trained = easy.train.head(REVIEWS - HELD_OUT)
    expected = ppmi_vectors(trained, params.vocabulary, params.embedding)
    np.testing.assert_array_equal(start[GOOD:], expected[GOOD:])
    assert start[:GOOD].all(), "ids that are no words start from random numbers"
    refitted = with_settings(spec, hold_out=False)
    of_all = ppmi_vectors(easy.train, params.vocabulary, params.embedding)
    np.testing.assert_array_equal(
        plain_weights(new_model(refitted, 0, compile == "on"))[0][GOOD:], of_all[GOOD:]
    )
    assert not np.array_equal(of_all, expected)
