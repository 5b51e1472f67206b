"""Names of the two labels of a corpus, and which of them is positive."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterator

from imdbtune.config.hyperparameters import convert
from imdbtune.data.tables import list_names
from imdbtune.errors import UserError, unknown_choice

_LONGEST = 100
_POSITIVE = ("positive", "pos", "good", "true", "yes", "y", "t", "+", "like", "fresh")
_NEGATIVE = ("negative", "neg", "bad", "false", "no", "n", "f", "-", "dislike", "rotten")

# Scripts with letters that look alike.
_LOOKALIKE_SCRIPTS = {"Latin", "Cyrillic", "Greek", "Armenian", "Cherokee"}
_CHECK = "check that they are meant to be two labels."


def label_name(value: object) -> str:
    """Return a label as text: ``1.0`` and ``1`` give ``1``, ``True`` ``true``; empty if invalid."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip() if isinstance(value, (int, str)) else ""
    return text if text.isprintable() and len(text) <= _LONGEST else ""


def order_labels(names: Collection[str], positive: str = "") -> tuple[str, str]:
    """Return the negative and the positive of two labels.

    The positive one is ``positive`` if given; else the one with a known positive meaning; else the
    larger number; else the later one in the alphabet.

    Raises:
        UserError: ``positive`` is neither of the two.
    """
    first, second = sorted(names, key=_by_number)
    if positive:
        if positive not in names:
            raise unknown_choice("positive label", positive, (first, second))
        return (first, second) if positive == second else (second, first)
    means_positive = first.casefold() in _POSITIVE or second.casefold() in _NEGATIVE
    means_negative = second.casefold() in _POSITIVE or first.casefold() in _NEGATIVE
    return (second, first) if means_positive and not means_negative else (first, second)


def _by_number(name: str) -> tuple[float, str]:
    try:
        number = float(name)
    except ValueError:
        return 0.0, name
    return number if math.isfinite(number) else 0.0, name


def label_notes(names: Collection[str]) -> Iterator[str]:
    """Yield a warning if two labels can hardly be told apart, or mix letters that look alike."""
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in names}
    scripts = {
        unicodedata.name(letter, "").partition(" ")[0].capitalize()
        for letter in "".join(folded)
        if letter.isalpha()
    } & _LOOKALIKE_SCRIPTS
    escaped = " and ".join(map(ascii, sorted(names)))
    if len(folded) < len(names):
        yield f"the labels {escaped} differ only in case or in forms of the same letters; {_CHECK}"
    elif len(scripts) > 1:
        yield f"the labels {escaped} mix {' and '.join(sorted(scripts))} letters; {_CHECK}"


def check_labels(origin: object, names: Collection[str]) -> None:
    """Raise UserError unless ``origin`` has exactly two labels."""
    if len(names) != 2:
        count = f"{len(names)} labels" if len(names) > 2 else "only one label"
        raise UserError(
            f"{origin} has {count}, {list_names(names, 5)}; exactly two are needed: "
            f"{_cut_advice(names)}choose another label column or leave rows out."
        )


def _cut_advice(names: Collection[str]) -> str:
    """Return how more than two labels that are numbers become two; empty for others."""
    numbers = sorted({n for name in names if isinstance(n := convert("float", name), float)})
    if len(numbers) < max(len(names), 3):
        return ""
    middle = numbers[(len(numbers) + 1) // 2]
    return f"divide these numbers with --label-at '>={middle:.12g}', "
