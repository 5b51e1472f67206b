"""Which words of a text moved its score: occlusion (Zeiler & Fergus 2014), word by word.

Each word that the model reads is replaced by the unknown word, one at a time; what that does to
the logit is the word's effect. The effects of words that say the same need not add up.
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

LEAST = 1e-6  # no probability is nearer to 0 or 1, where the logit would have no end


@dataclass(frozen=True)
class WordEffect:
    """A word, and how much higher it makes the logit; ``None`` where the model does not read it.

    It does not read what comes before its last ``maxlen`` words, nor words that it does not know.
    """

    word: str
    effect: float | None


@dataclass(frozen=True)
class Explanation:
    """A prediction with the effect of each word of its text, in order."""

    prediction: Prediction
    labels: tuple[str, str]
    words: tuple[WordEffect, ...]

    @property
    def largest(self) -> float:
        """The largest effect of a word, whichever way."""
        return max((abs(w.effect) for w in self.words if w.effect is not None), default=0.0)

    def strongest(self, count: int) -> list[WordEffect]:
        """The words with the largest effects, the largest first."""
        read = [w for w in self.words if w.effect]
        return sorted(read, key=lambda w: -abs(w.effect or 0.0))[:count]


def explain(predictor: Predictor, text: str) -> Explanation:
    """The prediction of a text, and the effect of each word: one more prediction for each."""
    words = split_words(text)
    ranks = [predictor.tokenizer.word_index.get(word) for word in words]
    ids = predictor.tokenizer.encode(text, predictor.vocabulary)[-predictor.maxlen :]
    known = [place for place, rank in enumerate(ranks) if rank is not None]
    # START comes first, and goes where a text is longer than what is kept.
    read = known[max(0, len(known) - len(ids)) :]
    offset = len(ids) - len(read)
    occluded = []
    for place in range(len(read)):
        changed = ids.copy()
        changed[offset + place] = OOV
        occluded.append(changed)
    whole, *without = predictor.of_ids([ids, *occluded])
    effects: dict[int, float] = {}
    for place, chance in zip(read, without, strict=True):
        rank = ranks[place]
        if rank is not None and rank + INDEX_FROM < predictor.vocabulary:
            effects[place] = _logit(whole) - _logit(chance)
    told = tuple(WordEffect(word, effects.get(place)) for place, word in enumerate(words))
    return Explanation(predictor.prediction(text, whole), predictor.labels, told)


def _logit(probability: float) -> float:
    inside = float(np.clip(probability, LEAST, 1 - LEAST))
    return math.log(inside / (1 - inside))


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


def page(explanations: list[Explanation], labels: tuple[str, str]) -> str:
    """One HTML page, which needs nothing else, with each text and its words in colour."""
    negative, positive = map(html.escape, labels)
    texts = "\n".join(map(_section, explanations))
    return _PAGE.format(negative=negative, positive=positive, texts=texts)


def _section(explanation: Explanation) -> str:
    told = explanation.prediction
    words = " ".join(_span(word, explanation.largest) for word in explanation.words)
    label, positive = html.escape(told.label), html.escape(explanation.labels[1])
    return f"<h2>{label} (probability of {positive}: {told.probability:.4f})</h2>\n<p>{words}</p>"


def _span(word: WordEffect, largest: float) -> str:
    text = html.escape(escape_control(word.word))
    if word.effect is None:
        return f'<span class="unread">{text}</span>'
    colour = "0, 114, 178" if word.effect > 0 else "230, 159, 0"  # of Okabe and Ito's palette
    share = 0.75 * abs(word.effect) / largest if largest else 0.0
    return (
        f'<span style="background: rgba({colour}, {share:.2f})" '
        f'title="{word.effect:+.3f}">{text}</span>'
    )
