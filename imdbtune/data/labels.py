"""Names of the labels of a corpus, their order, and which of two is positive."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterator

from imdbtune.config.hyperparameters import convert
from imdbtune.data.tables import list_names
from imdbtune.errors import UserError, short_repr, unknown_choice

MOST = 100  # labels of a corpus
_LONGEST = 100
_POSITIVE = ("positive", "pos", "good", "true", "yes", "y", "t", "+", "like", "fresh")
_NEGATIVE = ("negative", "neg", "bad", "false", "no", "n", "f", "-", "dislike", "rotten")

# Scripts with letters that look alike.
_LOOKALIKE_SCRIPTS = {"Latin", "Cyrillic", "Greek", "Armenian", "Cherokee"}


def label_name(value: object) -> str:
    """Return a label as text: ``1.0`` and ``1`` give ``1``, ``True`` ``true``; empty if invalid."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip() if isinstance(value, (int, str)) else ""
    return text if text.isprintable() and len(text) <= _LONGEST else ""


def order_labels(names: Collection[str], positive: str = "") -> tuple[str, ...]:
    """Return the labels in their order: as numbers, else by the alphabet; of two, see below.

    Two labels are the negative and the positive one. The positive one is ``positive`` if given;
    else the one with a known positive meaning; else the larger number; else the later one in the
    alphabet.

    Raises:
        UserError: ``positive`` is neither of two, or there are more.
    """
    first, second, *others = ordered = sorted(names, key=_by_number)
    if others:
        if positive:
            raise UserError(
                f"the positive label {short_repr(positive)} needs two labels, and there are "
                f"{len(names)}, {list_names(ordered, 5)}; leave it out."
            )
        return tuple(ordered)
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
    """Yield a warning if labels look alike, mix letters that do, or are more than two numbers."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    scripts = {
        unicodedata.name(letter, "").partition(" ")[0].capitalize()
        for letter in "".join(groups)
        if letter.isalpha()
    } & _LOOKALIKE_SCRIPTS
    alike = next((group for group in groups.values() if group[1:]), [])
    if alike:
        yield (
            f"the labels {_escaped(alike)} differ only in case or in forms of the same letters; "
            f"{_check(len(alike))}"
        )
    elif len(scripts) > 1:
        mixed = " and ".join(sorted(scripts))
        yield f"the labels {_escaped(names)} mix {mixed} letters; {_check(len(names))}"
    if advice := cut_advice(names):
        yield f"the numbers are taken as {len(names)} labels without an order; or {advice}"


def _escaped(names: Collection[str]) -> str:
    shown = [ascii(name) for name in sorted(names)]
    return " and ".join(shown) if len(shown) == 2 else list_names(sorted(names), 5)


def _check(count: int) -> str:
    return f"check that they are meant to be {'two' if count == 2 else count} labels."


def check_labels(origin: object, names: Collection[str], more: bool = False) -> None:
    """Raise UserError unless ``origin`` has 2 to ``MOST`` labels.

    Args:
        names: of the labels.
        more: whether only a part of the rows was read, so that one label may be too few so far.
    """
    if len(names) > MOST or (len(names) < 2 and not more):
        count = f"{len(names)} labels" if len(names) > MOST else "only one label"
        advice = cut_advice(names).removesuffix(".")
        raise UserError(
            f"{origin} has {count}, {list_names(names, 5)}; 2 to {MOST} are allowed: "
            f"{advice + ', ' if advice else ''}choose another label column or leave rows out."
        )


def cut_advice(names: Collection[str]) -> str:
    """Return how more than two labels that are numbers become two; empty for others."""
    numbers = sorted({n for name in names if isinstance(n := convert("float", name), float)})
    if len(numbers) < max(len(names), 3):
        return ""
    middle = numbers[(len(numbers) + 1) // 2]
    return f"divide these numbers with --label-at '>={middle:.12g}'."
