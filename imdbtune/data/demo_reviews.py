"""Generate the reviews of the demo corpus: choose sentences, order them, fill their slots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from random import Random
from typing import TypeVar

from imdbtune.data import demo_phrases as phrases

Review = tuple[str, int]
"""A text and its label: 0 negative, 1 positive."""

T = TypeVar("T")
Lexicon = Mapping[str, Sequence[str]]

# Shares in percent. They limit what a bag of words can learn.
_VERDICT_FIRST, _TURN = 25, 15  # of the reviews; in the others all opinions mean the label
_DIRECT, _NEGATED = 65, 18  # of the opinions; the others are contrasts

_MIN_WORDS, _MAX_WORDS = 20, 220
_STORY_WORDS = 11  # in a sentence of the story, on average


def write_reviews(
    count: int, seed: int, *, test_films: bool, exclude: Set[str] = frozenset()
) -> list[Review]:
    """Return ``count`` different reviews, negative and positive in turn, none in ``exclude``."""
    rng = Random(seed)
    reviews: dict[str, int] = {}
    while len(reviews) < count:
        label = len(reviews) % 2
        text = _write_review(rng, label, test_films)
        if text not in exclude:
            reviews.setdefault(text, label)
    return list(reviews.items())


def _write_review(rng: Random, label: int, test_film: bool) -> str:
    lexicon = _lexicon(rng, label, test_film)
    opens, opinions = _plan_opinions(rng)
    words = sum(len(sentence.split()) for sentence in opinions)
    story = _tell_story(rng, _draw_length(rng) - words)
    if opens:
        sentences = opinions + story
    elif _below(rng, 2):
        sentences = story + opinions
    else:
        sentences = _interleave(rng, story, opinions)
    return " ".join(_fill(rng, sentence, lexicon) for sentence in sentences)


def _plan_opinions(rng: Random) -> tuple[bool, list[str]]:
    """Return whether the opinions open the review, and their sentences in order."""
    kind = _below(rng, 100)
    if kind < _VERDICT_FIRST:
        caveats = _sample(rng, phrases.CAVEAT, _below(rng, 2))
        return True, [_pick(rng, phrases.VERDICT), *_opinions(rng, 1), *caveats]
    if kind < _VERDICT_FIRST + _TURN:
        foils = _sample(rng, phrases.FOIL, 1 + _below(rng, 2))
        return False, [*foils, _pick(rng, phrases.TURN), *_opinions(rng, _below(rng, 2))]
    return False, _opinions(rng, 2 + _below(rng, 2))


def _opinions(rng: Random, count: int) -> list[str]:
    """Return ``count`` sentences that each mean the label."""
    found = []
    for _ in range(count):
        kind = _below(rng, 100)
        if kind < _DIRECT:
            found.append(_pick(rng, phrases.DIRECT))
        elif kind < _DIRECT + _NEGATED:
            found.append(_pick(rng, phrases.NEGATED))
        else:
            found.append(_pick(rng, phrases.CONTRASTED))
    return found


def _tell_story(rng: Random, words: int) -> list[str]:
    """Return an opening and sentences of the story, in order, of at most about ``words`` words."""
    opening = _pick(rng, phrases.OPENING)
    count = max(0, words - len(opening.split())) // _STORY_WORDS
    chosen = sorted(_sample(rng, range(len(phrases.STORY)), count))
    return [opening, *(phrases.STORY[i] for i in chosen)]


def _draw_length(rng: Random) -> int:
    """Return how many words to write; as among real reviews, short ones are more frequent."""
    span = _MAX_WORDS - _MIN_WORDS
    return _MIN_WORDS + min(_below(rng, span), _below(rng, span))


def _interleave(rng: Random, story: Sequence[str], opinions: Sequence[str]) -> list[str]:
    """Return both mixed at random, each in its own order."""
    slots = set(_sample(rng, range(len(story) + len(opinions)), len(opinions)))
    left, right = iter(story), iter(opinions)
    return [next(right if i in slots else left) for i in range(len(story) + len(opinions))]


def _fill(rng: Random, sentence: str, lexicon: Lexicon) -> str:
    """Return ``sentence`` with its slots filled, ``a`` or ``an`` adjusted, and a capital first."""
    text = re.sub(r"\{(\w+)\}", lambda slot: _pick(rng, lexicon[slot[1]]), sentence)
    text = re.sub(r"\b(a|A) (?=[aeiouAEIOU])", r"\1n ", text)
    return text[0].upper() + text[1:]


def _lexicon(rng: Random, label: int, test_film: bool) -> Lexicon:
    """Return the words for each slot of a review: only one for the slots of its setting."""
    titles = [title for i, title in enumerate(phrases.TITLES) if (i % 5 == 0) == test_film]
    title, other_title = _sample(rng, titles, 2)
    return {
        **phrases.WORDS,
        **{f"same{form}": words for form, words in phrases.POLAR[label].items()},
        **{f"other{form}": words for form, words in phrases.POLAR[1 - label].items()},
        **{slot: [_pick(rng, words)] for slot, words in phrases.SETTING.items()},
        "title": [title],
        "other_title": [other_title],
    }


# Only ``Random.random`` is guaranteed to return the same numbers in every version of Python.


def _below(rng: Random, n: int) -> int:
    return int(rng.random() * n)


def _pick(rng: Random, options: Sequence[T]) -> T:
    return options[_below(rng, len(options))]


def _sample(rng: Random, options: Sequence[T], count: int) -> list[T]:
    """Return ``count`` different options, or all if there are fewer, in random order."""
    left = list(options)
    return [left.pop(_below(rng, len(left))) for _ in range(min(count, len(left)))]
