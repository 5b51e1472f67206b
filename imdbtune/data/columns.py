"""Which columns of a table hold texts, labels and parts, and the reviews in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imdbtune.config.schema import TableConfig
from imdbtune.data.download import Progress
from imdbtune.data.gathering import Review
from imdbtune.data.labels import check_labels, label_name
from imdbtune.data.parts import NAMES, TRAIN
from imdbtune.data.tables import FORMATS, Csv, Table, Values, is_table, listed, open_table
from imdbtune.errors import UserError, short_repr, unknown_choice
from imdbtune.files import require_regular_file

TEXT_NAMES = (
    *("text", "review", "reviews", "review_text", "sentence", "content", "comment"),
    *("body", "message", "document", "tweet", "phrase"),
)
LABEL_NAMES = ("label", "labels", "sentiment", "class", "target", "polarity", "category", "y")
NO_COLUMN = "none"

_LONGEST = 200
_CLEARLY = 3  # texts are as many times longer than what the next column holds


@dataclass(frozen=True)
class Columns:
    """The names of the columns; ``split`` is empty where there is none."""

    text: str
    label: str
    split: str


def find_columns(table: Table, config: TableConfig) -> Columns:
    """The columns that are named, or else found by their names or by what is in them.

    Raises:
        UserError: there is no such column, or it cannot be told which is meant.
    """
    _check_names(table)
    sample = dict(zip(table.columns, zip(*table.sample(), strict=True), strict=True))
    if isinstance(table, Csv):
        _check_first_line(table, sample)
    split = _split_column(table, config.split_column)
    label = _named(table, config.label_column) or _known(table, LABEL_NAMES, (split,))
    text = _named(table, config.text_column) or _known(table, TEXT_NAMES, (split, label))
    label = label or _label_column(table, sample, (text, split))
    text = text or _text_column(table, sample, (label, split))
    columns = Columns(text, label, split)
    _check_differ(table, columns)
    _check_label_column(table, label, sample[label])
    return columns


def read_reviews(table: Table, columns: Columns) -> Iterator[Review]:
    """The reviews of a table, one by one.

    Raises:
        UserError: a row has no label, a third one, an unknown part, or something else than text.
    """
    names = [name for name in (columns.text, columns.label, columns.split) if name]
    known: list[str] = []
    for place, values in table.rows(names):
        text, label = values[0], label_name(values[1])
        if text is None:
            text = ""
        if not isinstance(text, str):
            raise table.wrong(
                place, f"column {short_repr(columns.text)} holds {short_repr(text)}, no text"
            )
        if not label:
            raise table.wrong(place, f"column {short_repr(columns.label)} {_no_label(values[1])}")
        if label not in known:
            known.append(label)
            if len(known) > 2:
                third = f"holds {short_repr(label)}, a third label beside {listed(known[:2])}"
                raise table.wrong(
                    place, f"column {short_repr(columns.label)} {third}; two are allowed"
                )
        part = _part(table, place, columns.split, values[2]) if columns.split else TRAIN
        yield Review(text, label, part)


def read_texts(path: Path, column: str = "", progress: Progress | None = None) -> Iterator[str]:
    """The texts in a file, one by one: of a table those of a column, else a line each.

    A table's empty values are empty texts, its numbers are as they are written.

    Args:
        path: the file.
        column: of a table; empty: found by its name, or by what is in it.
        progress: told how far the file is read.

    Raises:
        UserError: the file cannot be read, or has no such column.
    """
    if not is_table(path):
        if column:
            raise UserError(
                f"column {short_repr(column)} is asked for, but {path} is no table "
                f"({', '.join(FORMATS)}); leave it out, or give a table."
            )
        return _lines(path)
    table = open_table(path, progress)
    _check_names(table)
    found = _named(table, column) or _known(table, TEXT_NAMES, ())
    if not found:
        sample = dict(zip(table.columns, zip(*table.sample(), strict=True), strict=True))
        found = _text_column(table, sample, ())
    return ("" if v is None else str(v) for _, (v,) in table.rows([found]))


def _lines(path: Path) -> Iterator[str]:
    try:
        file = require_regular_file(path).open("rb")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; give a file with a review a line, "
            "a table, or - for standard input."
        ) from error

    def lines() -> Iterator[str]:
        with file:
            for line in file:
                yield line.rstrip(b"\r\n").decode("utf-8", errors="replace")

    return lines()


def _no_label(value: object) -> str:
    empty = value is None or (isinstance(value, str) and not value.strip())
    return "is empty; each row needs a label" if empty else f"holds {short_repr(value)}, no label"


def _part(table: Table, place: int, column: str, value: object) -> int:
    part = NAMES.get(value.strip().casefold()) if isinstance(value, str) else None
    if part is None:
        allowed = f"it may hold {', '.join(NAMES)}; or leave it out by --split-column {NO_COLUMN}"
        raise table.wrong(
            place, f"column {short_repr(column)} holds {short_repr(value)}; {allowed}"
        )
    return part


def _check_names(table: Table) -> None:
    odd = [name for name in table.columns if not name.isprintable() or len(name) > _LONGEST]
    if odd or not any(table.columns):
        first = short_repr(odd[0]) if odd else "''"
        raise UserError(
            f"{table.path} has a column {first}, which is no name; the first row has to be the "
            "names of the columns, such as text,label."
        )


def _named(table: Table, name: str) -> str:
    """The column that the user names, or nothing if none is named."""
    if not name:
        return ""
    same = [c for c in table.columns if c == name] or _alike(table, name)
    if not same:
        raise unknown_choice(f"column of {table.path}", name, table.columns)
    if len(same) > 1:
        raise UserError(
            f"{table.path} has {len(same)} columns {short_repr(name)}; rename one of them."
        )
    return same[0]


def _alike(table: Table, name: str) -> list[str]:
    return [c for c in table.columns if c.casefold() == name.casefold()]


def _known(table: Table, names: Sequence[str], taken: Sequence[str]) -> str:
    """The first column of one of these names."""
    found = (_named(table, name) for name in names if _alike(table, name))
    return next((name for name in found if name not in taken), "")


def _split_column(table: Table, name: str) -> str:
    if name == NO_COLUMN:
        return ""
    return _named(table, name) or _known(table, ("split",), ())


def _label_column(table: Table, sample: dict[str, Values], taken: Sequence[str]) -> str:
    """The only column with two different values, or else with one (the table may be sorted)."""
    kinds = {name: len(set(map(label_name, sample[name]))) for name in sample if name not in taken}
    for count in (2, 1):
        found = [name for name, kind in kinds.items() if kind == count]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise _unclear(table, "labels", "--label-column")


def _text_column(table: Table, sample: dict[str, Values], taken: Sequence[str]) -> str:
    """The column whose values are by far the longest."""
    length = {name: _length(values) for name, values in sample.items() if name not in taken}
    longest = sorted(length, key=lambda name: -length[name])
    if longest and (len(longest) == 1 or length[longest[0]] >= _CLEARLY * length[longest[1]]):
        return longest[0]
    raise _unclear(table, "texts", "--text-column")


def _length(values: Values) -> int:
    return sum(len(value) for value in values if isinstance(value, str))


def _unclear(table: Table, what: str, flag: str) -> UserError:
    return UserError(
        f"{table.path} does not show which column holds the {what}; name it by {flag}. Its "
        f"columns: {listed(table.columns)}."
    )


def _check_differ(table: Table, columns: Columns) -> None:
    names = [columns.text, columns.label, *([columns.split] if columns.split else [])]
    if len(set(names)) < len(names):
        raise UserError(
            f"texts, labels and parts of {table.path} are to be in different columns, not in "
            f"{listed(names)}; its columns: {listed(table.columns)}."
        )


def _check_first_line(table: Table, sample: dict[str, Values]) -> None:
    """A file without names of columns has a label where one is expected."""
    for name, values in sample.items():
        if name in values and len(set(values)) <= 2:
            raise UserError(
                f"{table.path}, line 1: it holds {short_repr(name)}, as other "
                "lines do, but has to name "
                "the columns; put a line such as text,label before it."
            )


def _check_label_column(table: Table, label: str, values: Values) -> None:
    """The first rows suffice to tell a column with too many labels."""
    found = dict.fromkeys(filter(None, map(label_name, values)))
    if len(found) > 2:
        check_labels(f"column {short_repr(label)} of {table.path}", found, listed(found, 5))
