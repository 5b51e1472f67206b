"""The linear baseline: its mathematics, its metrics, and how reports describe it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from imdbtune.cli.best import _baseline_facts
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import OOV, START, Split, make_split
from imdbtune.errors import UserError
from imdbtune.models import hashed_ngrams, nb_linear
from imdbtune.report import leaderboard
from imdbtune.report.findings import compare_with_baseline
from imdbtune.tracking import mlflow_names
from imdbtune.tracking.entities import Baseline, Search, Trial
from tests.unit.report.test_page import made_trial

REVIEWS = [
    [START, 4, 5, 6],
    [START, 4, 5, 4, 5],
    [START, 6, 7, *[10] * hashed_ngrams.END],  # the first three are not at the end
    [START, 7, 7, 8, 9],
    [],
    [START, 5, 8, 9],
]
LABELS = [1, 1, 0, 0, 1, 0]
SPLIT = make_split(REVIEWS, LABELS)


Term = tuple[int, ...]  # a term at the end of a review has AT_END after its words
AT_END = -1


def bag(review: list[int]) -> set[Term]:
    """The words, pairs and triples of a review, by definition."""
    found = set()
    for n in (1, 2, 3):
        for first in range(len(review) - n + 1):
            words = (*review[first : first + n],)
            found.add(words)
            if first >= len(review) - hashed_ngrams.END:
                found.add((*words, AT_END))
    return found


def key(term: Term) -> int:
    words = [word for word in term if word != AT_END]
    end = hashed_ngrams.END_KEY if AT_END in term else 0
    return end + sum(w * factor for w, factor in zip(words, hashed_ngrams.FACTORS, strict=False))


def row(term: Term) -> int:
    return int(hashed_ngrams.table_rows(np.array([key(term)]), nb_linear.MIN_ROWS + 1)[0])


def ratios() -> dict[Term, float]:
    """Wang & Manning's formula as it is written."""
    df = Counter(term for review in REVIEWS for term in bag(review))
    kept = [term for term, count in df.items() if count >= 2]
    count = {
        y: Counter(
            t for r, label in zip(REVIEWS, LABELS, strict=True) if label == y for t in bag(r)
        )
        for y in (0, 1)
    }
    p, q = ({t: 1 + count[y][t] for t in kept} for y in (1, 0))
    return {t: math.log((p[t] / sum(p.values())) / (q[t] / sum(q.values()))) for t in kept}


def keys_by_review(split: Split) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in range(len(split))]
    for reviews, keys in nb_linear.occurrences(split):
        for review, each in zip(reviews, keys, strict=True):
            found[review].add(int(each))
    return found


def test_ngrams_do_not_reach_into_the_next_review() -> None:
    assert keys_by_review(SPLIT) == [{key(term) for term in bag(review)} for review in REVIEWS]
    counts = [len(keys) for _, keys in nb_linear.occurrences(SPLIT)]
    whole = [sum(max(len(review) - n + 1, 0) for review in REVIEWS) for n in (1, 2, 3)]
    assert counts == [count for each in whole for count in (each, each - 3)]
    assert [len(keys) for _, keys in nb_linear.occurrences(SPLIT.head(0))] == [0] * 6


@pytest.mark.parametrize("unknown", [OOV, hashed_ngrams.VOCABULARY, hashed_ngrams.VOCABULARY + 9])
def test_ngrams_with_an_unknown_word_are_left_out(unknown: int) -> None:
    (found,) = keys_by_review(make_split([[1, 4, unknown, 5, 4, 6]], [1]))
    known = [(1,), (4,), (5,), (6,), (1, 4), (5, 4), (4, 6), (5, 4, 6)]
    assert found == {key(term) for words in known for term in (words, (*words, AT_END))}


def test_keys_of_the_rarest_words_do_not_overflow() -> None:
    last = hashed_ngrams.VOCABULARY - 1
    *_, (_, keys) = nb_linear.occurrences(make_split([[last] * 3], [1]))
    assert keys.tolist() == [key((*[last] * 3, AT_END))] < [2**63]


def sklearns_logits(split: Split, bags: list[set[Term]]) -> np.ndarray:
    """scikit-learn's probabilities, from a matrix that is built term by term."""
    known = ratios()
    terms = sorted(known)

    def matrix(bags: list[set[Term]]) -> Any:
        return csr_array([[known[t] * (t in bag) for t in terms] for bag in bags])

    classifier = LogisticRegression(solver="liblinear", C=nb_linear.C, tol=1e-9)
    classifier.fit(matrix([bag(r) for r in REVIEWS]), LABELS)
    return np.asarray(classifier.predict_proba(matrix(bags))[:, 1])


def test_the_ratios_and_features_are_those_of_the_paper() -> None:
    model = nb_linear.fit(SPLIT)
    expected = ratios()
    order = sorted(expected, key=row)
    assert len({row(term) for term in expected}) == len(expected)  # no collisions
    assert model.used.tolist() == [row(term) for term in order]
    assert model.rows == nb_linear.MIN_ROWS + 1
    bags = [bag(review) for review in REVIEWS]
    columns = [order.index(t) for b in bags for t in b if t in expected]
    labels = [y for b, y in zip(bags, LABELS, strict=True) for t in b if t in expected]
    found = nb_linear.log_count_ratios(np.array(columns), np.array(labels, np.int8), len(expected))
    assert found == pytest.approx([expected[t] for t in order])


def test_several_labels_have_a_classifier_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60).astype(np.int8)
    reviews = [[START, *rng.integers(4, 12, 6), 20 + label] for label in labels]
    split = make_split(reviews, labels)
    model = nb_linear.fit(split, 4)  # no review has the last label
    model.save(tmp_path / "linear.npz")
    found = nb_linear.predict(nb_linear.LinearModel.load(tmp_path / "linear.npz"), split)
    each = []
    for label in range(3):
        one = make_split(reviews, (labels == label).astype(np.int8))
        each.append(nb_linear.predict(nb_linear.fit(one), one))
    expected = np.stack([*each, np.zeros(60)], axis=1)
    assert found == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-9)
    assert nb_linear.measure_majority(split, classes=4)["best_loss"] == pytest.approx(
        -sum(share * np.log(share) for share in np.bincount(labels[:48]) / 48)
    )


NEW = [[START, 4, 5], [START, 9, 8, 7, 99], [], [START, 4, *[50] * 99, 5, 4]]


def test_it_predicts_as_scikit_learn_does_also_after_saving_and_loading(tmp_path: Path) -> None:
    model = nb_linear.fit(SPLIT)
    model.save(tmp_path / "linear.npz")
    again = nb_linear.LinearModel.load(tmp_path / "linear.npz")
    for reviews in (REVIEWS, NEW):
        split = make_split(reviews, [0] * len(reviews))
        expected = sklearns_logits(split, [bag(review) for review in reviews])
        for each in (model, again):
            found = nb_linear.predict(each, split)
            assert found == pytest.approx(expected, abs=1e-6)
    assert np.ptp(expected) > 0.01


def test_predictions_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nb_linear.fit(SPLIT)
    whole = nb_linear.predict(model, SPLIT)
    monkeypatch.setattr(nb_linear, "CHUNK", 2)
    assert nb_linear.predict(model, SPLIT).tolist() == whole.tolist()
    assert nb_linear.predict(model, SPLIT.head(0)).shape == (0,)


class Touches:
    """Leaves a file when its pickle is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    used = np.array([Touches(tmp_path / "run")], object)
    np.savez(tmp_path / "linear.npz", used=used, weights=np.zeros(1), bias=0.0, rows=9)
    with pytest.raises(UserError, match="is not a linear model of imdbtune"):
        nb_linear.LinearModel.load(tmp_path / "linear.npz")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "linear.npz"
    good = {"used": np.arange(1, 4), "weights": np.zeros(3), "bias": 0.0, "rows": 9}
    wrong: list[dict[str, Any]] = [
        {"used": np.arange(1, 5)},
        {"used": np.array([2, 1, 3])},
        {"used": np.arange(3)},
        {"rows": 3},
        {"bias": np.zeros(2)},
    ]
    for change in wrong:
        np.savez(path, **(good | change))
        with pytest.raises(UserError, match="is not a linear model of imdbtune"):
            nb_linear.LinearModel.load(path)
    path.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(UserError, match="is not a linear model of imdbtune"):
        nb_linear.LinearModel.load(path)
    np.savez(path, **good)
    assert nb_linear.LinearModel.load(path).rows == 9


def test_it_uses_the_training_and_validation_reviews_of_the_trials() -> None:
    """The last fifth, with swapped labels, is used only for validation."""
    reviews = [[START, 4 + i % 2, 4 + i % 2, *([8] * (i >= 40))] for i in range(50)]
    labels = [i % 2 if i < 40 else 1 - i % 2 for i in range(50)]
    trained = nb_linear.train_linear(make_split(reviews, labels))
    model, metrics = trained.model, trained.metrics
    known = {START, 4, 5}  # 8 occurs in the last fifth only
    assert trained.right.mean() == metrics["best_val_accuracy"]
    assert (metrics["best_accuracy"], metrics["best_val_accuracy"]) == (1.0, 0.0)
    assert metrics["best_loss"] < math.log(2) < metrics["best_val_loss"]
    words = range(1, 9)
    assert {word for word in words if row((word,)) in model.used} == known
    assert metrics["parameter_count"] == metrics["features"] + 1 == len(model.used) + 1


def test_the_majority_class() -> None:
    labels = [1] * 6 + [0] * 2 + [1, 0]
    metrics = nb_linear.measure_majority(make_split([[START]] * 10, labels))
    assert metrics["best_accuracy"] == 0.75
    assert metrics["best_val_accuracy"] == 0.5
    assert metrics["best_val_loss"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


@pytest.mark.parametrize(
    ("reviews", "labels", "told"),
    [
        ([[1, 4], [1, 4]], [1, 1], "the same label"),
        ([[4], [5]], [0, 1], "no word occurs in 2"),
        ([[], []], [0, 1], "no word occurs in 2"),
    ],
)
def test_reviews_that_cannot_be_fitted(reviews: Any, labels: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        nb_linear.fit(make_split(reviews, labels))


def made_baselines(accuracy: float, status: str = "FINISHED") -> list[Baseline]:
    metrics = {"best_val_accuracy": accuracy, "best_val_loss": 0.25, "train_seconds": 21.4}
    majority = Baseline("b", mlflow_names.MAJORITY, "FINISHED", {"best_val_accuracy": 0.505})
    return [majority, Baseline("a", mlflow_names.LINEAR, status, metrics)]


def best_of(accuracy: float) -> Trial:
    return made_trial(1, accuracy, TrialParams())


NOT = ", which is not significant"


@pytest.mark.parametrize(
    ("winner", "said", "verb"),
    [
        (0.8952, "2.1 ±1.1 points below it", "is beaten by"),
        (0.9362, "2.0 ±1.0 points above it", "beats"),
        (
            0.9182,
            "0.2 ±1.1 points above it, which is not significant",
            "does not differ significantly",
        ),
        (0.9162, "level with it", "does not differ significantly"),
    ],
)
def test_comparison_with_the_winner(winner: float, said: str, verb: str) -> None:
    found = compare_with_baseline(made_baselines(0.9162), [best_of(winner)], 5000)
    assert found is not None
    result = "a linear model on word n-grams reaches 0.9162 in 21 s"
    assert str(found) == f"{result}: the best trial is {said}"
    assert found.relation.startswith(verb)


def test_there_is_no_comparison_without_a_baseline() -> None:
    assert compare_with_baseline([], [best_of(0.9)], 5000) is None
    assert compare_with_baseline(made_baselines(0.9, "FAILED"), [best_of(0.9)], 5000) is None
    alone = compare_with_baseline(made_baselines(0.9), [], 5000)
    assert str(alone) == "a linear model on word n-grams reaches 0.9000 in 21 s"
    assert set(_baseline_facts([]).values()) == {None}


def test_json_has_its_figures() -> None:
    assert _baseline_facts(made_baselines(0.9)) == {
        "baseline_val_accuracy": 0.9,
        "baseline_val_loss": 0.25,
        "baseline_seconds": 21.4,
        "majority_val_accuracy": 0.505,
    }


def test_the_description_mentions_the_baseline_after_the_winner() -> None:
    tags = {mlflow_names.DATA: "demo", mlflow_names.VALIDATION_REVIEWS: "5000"}
    search = Search("id", "mine", "RUNNING", "7", tags, {}, 0)
    best = [best_of(0.95)]
    linear = compare_with_baseline(made_baselines(0.9), best, 5000)
    text = leaderboard.markdown(search, best, ["units"], False, linear)
    first = text.splitlines()[0]
    assert "at epoch 2.** A linear model on word n-grams [reaches](#/experiments/7/runs/a?" in first
    assert ") 0.9000 in 21 s: the best trial is 5.0 ±1.0 points above it. Data: demo." in first
