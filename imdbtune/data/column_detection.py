"""Guess which columns of a table hold the texts and the labels, by their names and contents.

A name counts by its last word: ``Review Text`` and ``reviewText`` are texts, ``star_rating`` is a
label. Dates, times and ids are never labels or texts, though a column of dates may have two values.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from imdbtune.config.hyperparameters import convert
from imdbtune.data.labels import MOST, label_name
from imdbtune.data.tables import Table, Values
from imdbtune.errors import UserError, short_repr

# The best names first.
TEXT_NAMES = (
    *("text", "review", "reviews", "sentence", "content", "contents", "comment", "comments"),
    *("body", "message", "document", "tweet", "phrase", "post", "feedback", "description"),
)
LABEL_NAMES = (
    *("label", "labels", "sentiment", "class", "target", "polarity", "category", "y"),
    *("verdict", "stars", "star", "rating", "ratings", "score", "scores", "grade", "overall"),
    *("positive", "recommended", "liked"),
)
_NEVER = (
    *("", "id", "ids", "uid", "uuid", "guid", "idx", "index", "key", "url", "unnamed"),
    *("date", "datetime", "time", "timestamp", "day", "month", "year", "created", "updated", "at"),
)
_DATE = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?!\d)|\d{1,2}:\d\d\b|\w{3,9}\.? \d{1,2},? \d{4}\b"
)
_TEXT_RATIO = 3  # texts are at least so many times longer than the values of any other column
_MAX_VALUES, _MAX_COLUMNS = 3, 8  # in a message

Sample = Mapping[str, Values]  # column name -> its values in the first rows


def detect_columns(
    table: Table, sample: Sample, text: str, split: str, numbers: bool
) -> tuple[str, str]:
    """Return the columns of the texts and of the labels, whichever can be told first.

    Args:
        table: what a message names.
        sample: its first rows.
        text: the column of the texts if it is known, else empty.
        split: the column of the parts, if there is one.
        numbers: whether the labels are numbers, of which a condition makes two labels.

    Raises:
        UserError: a column cannot be told from the others.
    """
    label = next(iter(_label_names(sample, (text, split), numbers)), "")
    text = text or next(iter(_text_names(sample, (label, split))), "")
    label = label or _label_by_content(sample, (text, split), numbers)
    if not label:
        raise _ambiguous(table, sample, (text, split), "labels", "--label-column")
    return text or detect_text(table, sample, (label, split)), label


def detect_text(table: Table, sample: Sample, taken: Collection[str]) -> str:
    """Return the column of the texts: by its name, else the one with by far the longest values.

    Args:
        table: what a message names.
        sample: its first rows.
        taken: columns that hold something else.

    Raises:
        UserError: no column can be told from the others.
    """
    if named := _text_names(sample, taken):
        return named[0]
    free = _texts(sample, taken) or _without(sample, taken)
    length = {name: _total_length(values) for name, values in free.items()}
    longest = sorted(length, key=lambda name: -length[name])
    if longest and (len(longest) == 1 or length[longest[0]] >= _TEXT_RATIO * length[longest[1]]):
        return longest[0]
    raise _ambiguous(table, sample, taken, "texts", "--text-column")


def _text_names(sample: Sample, taken: Collection[str]) -> list[str]:
    """Return the columns that are texts by their name, the best first."""
    texts = _by_name(list(_texts(sample, taken)), TEXT_NAMES)
    return texts or _by_name(list(_without(sample, taken)), TEXT_NAMES)


def _texts(sample: Sample, taken: Collection[str]) -> Sample:
    """Return the columns that may be texts."""
    return {
        name: values
        for name, values in _without(sample, taken).items()
        if not (_never(name) or _all(_is_no_text, values))
    }


def _labels(sample: Sample, taken: Collection[str], numbers: bool) -> dict[str, int]:
    """Return the columns that may be labels, with the number of their labels."""
    return {
        name: len(set(map(label_name, values)))
        for name, values in _without(sample, taken).items()
        if not (_never(name) or _all(_is_date, values))
        and (not numbers or _all(_is_number, values))
    }


def _label_names(sample: Sample, taken: Collection[str], numbers: bool) -> list[str]:
    """Return the columns that are labels by their name, those with two labels first."""
    counts = _labels(sample, taken, numbers) or _labels(sample, taken, numbers=False)
    return sorted(_by_name(list(counts), LABEL_NAMES), key=lambda name: counts[name] != 2)


def _label_by_content(sample: Sample, taken: Collection[str], numbers: bool) -> str:
    """Return the only column with two labels, or else with one, as rows may be sorted; or "".

    Without such columns, it is the only one with few labels that repeat, of words before numbers.
    """
    counts = _labels(sample, taken, numbers)
    for wanted in (2, 1):
        found = [name for name, count in counts.items() if numbers or count == wanted]
        if found:
            return found[0] if len(found) == 1 else ""
    few = [name for name, count in counts.items() if count <= min(MOST, len(sample[name]) // 2)]
    found = [name for name in few if not _all(_is_number, sample[name])] or few
    return found[0] if len(found) == 1 else ""


def _without(sample: Sample, taken: Collection[str]) -> Sample:
    return {name: values for name, values in sample.items() if name not in taken}


def _describe(sample: Sample) -> str:
    """Return the names of columns, each with some of its values, for a message."""
    shown = [f"{short_repr(name, 40)} ({_values(v)})" for name, v in sample.items()]
    rest = [f"{len(shown) - _MAX_COLUMNS} more"] if len(shown) > _MAX_COLUMNS else []
    return "; ".join(shown[:_MAX_COLUMNS] + rest)


def _values(values: Values) -> str:
    found = list(dict.fromkeys(short_repr(value, 30) for value in values))
    return ", ".join(found[:_MAX_VALUES] + ["..."] * (len(found) > _MAX_VALUES))


def _ambiguous(
    table: Table, sample: Sample, taken: Collection[str], content: str, flag: str
) -> UserError:
    return UserError(
        f"{table.path}: cannot detect which column holds the {content}; name it with {flag}. "
        f"Columns and their first values: {_describe(_without(sample, taken) or sample)}."
    )


def _words(name: str) -> list[str]:
    """Return the words of a column name in lower case, without numbers at its end."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[\W_]+", spaced.casefold()) if word]
    while words[1:] and words[-1].isdigit():
        words.pop()
    return words or [""]


def _by_name(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns with such a name, the best first: whole names before last words."""
    ranks = {
        column: (len(words) > 1, names.index(words[-1]))
        for column in columns
        if (words := _words(column))[-1] in names
    }
    return sorted(ranks, key=lambda column: ranks[column])


def _never(name: str) -> bool:
    return _words(name)[-1] in _NEVER or _words(name)[0] in ("id", "date", "unnamed")


def _all(condition: Callable[[object], bool], values: Values) -> bool:
    """Return whether all values that are not empty meet a condition, and there are any."""
    filled = [value for value in values if value is not None and value != ""]
    return bool(filled) and all(map(condition, filled))


def _is_date(value: object) -> bool:
    if isinstance(value, str):
        return _DATE.match(value.strip()) is not None and len(value) < 40
    return isinstance(value, (datetime.date, datetime.time))


def _is_number(value: object) -> bool:
    return convert("float", value) is not None


def _is_no_text(value: object) -> bool:
    return not isinstance(value, str) or _is_number(value) or _is_date(value)


def _total_length(values: Values) -> int:
    return sum(len(value) for value in values if isinstance(value, str))
