"""Explain a prediction by occlusion of single words (Zeiler & Fergus 2014).

Each word that the model reads is replaced by the unknown word, one at a time. The effect of the
word is the logit of the whole text minus that of the occluded one. Effects of several words do not
add up in general. With more than two labels, it is the logit of the predicted one.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

import numpy as np

from imdbtune.data.corpus import INDEX_FROM, OOV
from imdbtune.data.text import split_words
from imdbtune.errors import escape_control
from imdbtune.export.predictor import Prediction, Predictor

OTHERS = "all other labels"  # for which a word speaks against the predicted one
EPSILON = 1e-6  # probabilities are clipped to this distance from 0 and 1, so logits are finite


@dataclass(frozen=True)
class WordEffect:
    """A word, and by how much it raises the logit; ``None`` if the model does not read it.

    The model reads only words in its vocabulary, and of these the last ``maxlen``.
    """

    word: str
    effect: float | None


@dataclass(frozen=True)
class Explanation:
    """A prediction with the effect of each word of its text, in order."""

    prediction: Prediction
    labels: tuple[str, str]  # for which negative and positive effects speak
    words: tuple[WordEffect, ...]

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the text, with each word coloured by its effect."""
        return f"<div>{_section(self)}</div>"

    @property
    def largest(self) -> float:
        """The largest absolute effect of a word."""
        return max((abs(w.effect) for w in self.words if w.effect is not None), default=0.0)

    def strongest(self, count: int) -> list[WordEffect]:
        """Return the words with the largest absolute effects, the largest first."""
        with_effect = [w for w in self.words if w.effect]
        return sorted(with_effect, key=lambda w: -abs(w.effect or 0.0))[:count]


def explain(predictor: Predictor, text: str) -> Explanation:
    """Return the prediction of a text and the effect of each word, one more prediction each."""
    words = split_words(text)
    ranks = [predictor.tokenizer.word_index.get(word) for word in words]
    ids = predictor.tokenizer.encode(text, predictor.vocabulary)[-predictor.maxlen :]
    known = [index for index, rank in enumerate(ranks) if rank is not None]
    # The ids begin with START, which is cut off if the text is longer than maxlen.
    encoded = known[max(0, len(known) - len(ids)) :]
    offset = len(ids) - len(encoded)
    occluded = []
    for position in range(len(encoded)):
        changed = ids.copy()
        changed[offset + position] = OOV
        occluded.append(changed)
    outputs = predictor.outputs_of_ids([ids, *occluded])
    whole, *without = map(float, outputs[:, outputs[0].argmax()])
    effects: dict[int, float] = {}
    for index, probability in zip(encoded, without, strict=True):
        rank = ranks[index]
        if rank is not None and rank + INDEX_FROM < predictor.vocabulary:
            effects[index] = _logit(whole) - _logit(probability)
    word_effects = tuple(WordEffect(word, effects.get(index)) for index, word in enumerate(words))
    prediction = predictor.prediction(text, outputs[0])
    negative, positive, *others = predictor.labels
    labels = (OTHERS, prediction.label) if others else (negative, positive)
    return Explanation(prediction, labels, word_effects)


def _logit(probability: float) -> float:
    clipped = float(np.clip(probability, EPSILON, 1 - EPSILON))
    return math.log(clipped / (1 - clipped))


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Which words moved the score</title>
<style>
body {{ font: 1rem/1.7 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; }}
body {{ padding: 0 1rem; }}
span {{ border-radius: .2em; padding: .1em .15em; print-color-adjust: exact; }}
.unread {{ color: #888; }}
</style>
<h1>Which words moved the score</h1>
<p>Blue words speak for <b>{positive}</b>, orange ones for <b>{negative}</b>: how far the logit
falls or rises without them. Grey words are not read by the model.</p>
{texts}
</html>
"""


def page(explanations: list[Explanation]) -> str:
    """Return a self-contained HTML page of the texts, with each word coloured by its effect."""
    first = explanations[0].labels
    labels = first if first[0] != OTHERS else (OTHERS, "the predicted label")
    negative, positive = map(html.escape, labels)
    texts = "\n".join(map(_section, explanations))
    return _PAGE.format(negative=negative, positive=positive, texts=texts)


def _section(explanation: Explanation) -> str:
    prediction = explanation.prediction
    words = " ".join(_span(word, explanation.largest) for word in explanation.words)
    label, positive = html.escape(prediction.label), html.escape(explanation.labels[1])
    probability = f"{prediction.probability:.4f}"
    return f"<h2>{label} (probability of {positive}: {probability})</h2>\n<p>{words}</p>"


def _span(word: WordEffect, largest: float) -> str:
    text = html.escape(escape_control(word.word))
    if word.effect is None:
        return f'<span class="unread">{text}</span>'
    colour = "0, 114, 178" if word.effect > 0 else "230, 159, 0"  # Okabe and Ito's palette
    alpha = 0.75 * abs(word.effect) / largest if largest else 0.0
    return (
        f'<span style="background: rgba({colour}, {alpha:.2f})" '
        f'title="{word.effect:+.3f}">{text}</span>'
    )
