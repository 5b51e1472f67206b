"""Occlusion: the effect of each word, against a network whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from imdbtune.data.corpus import INDEX_FROM, OOV
from imdbtune.data.text import Tokenizer
from imdbtune.export.occlusion import Explanation, explain, page
from imdbtune.export.predictor import Predictor

WORDS = {"good": 1, "bad": 2, "film": 3, "rare": 8}
WEIGHTS = {1 + INDEX_FROM: 2.0, 2 + INDEX_FROM: -3.0, 3 + INDEX_FROM: 0.0, OOV: 0.0}


def linear(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Adds up a weight for each id."""
    logits = [sum(WEIGHTS.get(int(i), 0.0) for i in row) for row in ids]
    return 1 / (1 + np.exp(-np.array(logits, np.float32)))[:, None]


def explained(text: str, maxlen: int = 10) -> Explanation:
    return explain(Predictor(linear, Tokenizer(WORDS), 10, maxlen, False), text)


def effects(explanation: Explanation) -> dict[str, float | None]:
    return {w.word: None if w.effect is None else round(w.effect, 3) for w in explanation.words}


def test_effects_are_the_weights_of_a_linear_model() -> None:
    explanation = explained("A GOOD film, not bad; rare!")
    assert effects(explanation) == {
        **{"a": None, "good": 2.0, "film": 0.0},
        **{"not": None, "bad": -3.0, "rare": None},  # beyond the vocabulary
    }
    assert explanation.prediction.label == "negative"
    assert [w.word for w in explanation.strongest(5)] == ["bad", "good"]
    assert explanation.largest == pytest.approx(3.0, abs=1e-3)


def test_of_several_labels_the_predicted_one_is_explained() -> None:
    def run(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        second = linear(ids)
        return np.concatenate([(1 - second) / 2, second, (1 - second) / 2], axis=1)

    predictor = Predictor(run, Tokenizer(WORDS), 10, 10, False, ("a", "b", "c"))
    explanation = explain(predictor, "good bad film good")
    assert explanation.prediction.ranking[0] == ("b", pytest.approx(0.731, abs=1e-3))
    assert explanation.labels == ("all other labels", "b")
    assert [w.effect for w in explanation.words] == pytest.approx([2.0, -3.0, 0.0, 2.0], abs=1e-3)
    assert "the predicted label" in page([explanation])


@pytest.mark.parametrize("maxlen", [1, 2, 3, 4, 5])
def test_words_that_are_cut_off_have_no_effect(maxlen: int) -> None:
    words = explained("bad odd good film good", maxlen).words
    read = [w.effect is not None for w in words if w.word != "odd"]
    assert read == [position >= 4 - maxlen for position in range(4)]


@pytest.mark.parametrize("text", ["", "odd", "!", "good " * 5000])
def test_no_text_is_an_error(text: str) -> None:
    assert len(explained(text).words) == len(text.replace("!", "").split())


def test_the_page_escapes_words_and_labels() -> None:
    explanation = explained("good <script>alert(1)</script> bad&film")
    explanation = dataclasses.replace(explanation, labels=("<b>", "good"))
    text = page([explanation])
    assert "<script" not in text
    assert "&lt;b&gt;" in text
    probability = f"{explanation.prediction.probability:.4f}"
    assert f"(probability of {explanation.labels[1]}: {probability})" in text
    assert text.count("rgba(0, 114, 178") == 1  # good
    assert text.count("rgba(230, 159, 0") == 2  # bad, and film without effect
    odd = page([explained("good \x1b[31m \u202e film")])
    assert all(character.isprintable() or character == "\n" for character in odd)
