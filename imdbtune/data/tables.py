"""Tables of texts as a stream of rows: CSV, TSV, JSON lines and Parquet.

Nothing is kept but the row at hand, so a table may be larger than memory. What is wrong is told
with its place: the line in the file (where a row begins), or the row in formats that have no lines.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from imdbtune.data.download import Progress
from imdbtune.errors import UserError, short_repr
from imdbtune.files import require_regular_file

SAMPLE = 1000  # rows by which columns are found
MAX_LINE = 2**24  # bytes of a line, characters of a field
_TOLD_EVERY = 2**22  # bytes
# Of a column in a Parquet file: unpacked to packed, beyond what is small.
_MAX_RATIO = 100
_FREE_BYTES = 2**26
_UTF16 = ("fffe", "feff")

Values = tuple[object, ...]


class Table(ABC):
    """A table in a file; rows are read anew by each call.

    Raises:
        UserError: from all methods, where the file is not what its name says.
    """

    unit = "line"

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path = path
        self.progress = progress
        self.columns: tuple[str, ...] = ()

    @abstractmethod
    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """The place (from 1) of each row, and what is in the columns ``names``."""

    def sample(self) -> list[Values]:
        """All columns of the first rows."""
        return [row for _, row in itertools.islice(self.rows(self.columns), SAMPLE)]

    def wrong(self, place: int, what: str) -> UserError:
        """The error for something in one row."""
        return UserError(f"{self.path}, {self.unit} {place}: {what}.")

    def _lines(self) -> Iterator[str]:
        """The lines of a file in UTF-8, with what ends them."""
        done = told = 0
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number in itertools.count(1):
                raw = file.readline(MAX_LINE)
                if not raw:
                    return
                yield self._decoded(raw, number, done)
                done += len(raw)
                if self.progress is not None and done - told >= _TOLD_EVERY:
                    told = done
                    self.progress(f"reading {self.path.name}", done, size)

    def _decoded(self, raw: bytes, number: int, before: int) -> str:
        if len(raw) == MAX_LINE:
            raise self.wrong(number, f"it is longer than {MAX_LINE:,} bytes; this is no table")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at = f"byte {before + error.start:,} of the file is 0x{raw[error.start]:02x}"
            guess = "UTF-16" if number == 1 and raw[:2].hex() in _UTF16 else "another encoding"
            reason = f"{at}, which is not UTF-8: it is in {guess}, or no text; save it as UTF-8"
            raise self.wrong(number, reason) from error
        if "\0" in text:
            at = f"byte {before + raw.index(0):,} of the file is zero"
            raise self.wrong(number, f"{at}, as in no text; this is a file of another kind")
        return text.removeprefix("\ufeff") if number == 1 else text


class Csv(Table):
    """Values between commas, semicolons or tabs; the first line names the columns."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        super().__init__(path, progress)
        tabs = path.suffix.lower() == ".tsv"
        first = next(self._lines(), "")
        self.delimiter = "\t" if tabs else max((",", ";", "\t"), key=first.count)
        _, record = next(self._records(), (1, ()))
        self.columns = tuple(name.strip() for name in record)

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """See :class:`Table`."""
        places, width = [self.columns.index(name) for name in names], len(self.columns)
        for line, record in itertools.islice(self._records(), 1, None):
            if len(record) != width:
                raise self.wrong(line, _ragged(len(record), width, self.delimiter))
            yield line, tuple(record[place] for place in places)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(MAX_LINE)
        reader = csv.reader(self._lines(), delimiter=self.delimiter, strict=True)
        end = 0
        while True:
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self.wrong(end + 1, f"{_plainly(error)}; {_QUOTING}") from error
            begin, end = end + 1, reader.line_num
            if record:  # an empty line has none
                yield begin, record


_QUOTING = (
    'a value with commas, quotes or line breaks stands in double quotes, and a quote in it is ""'
)


def _ragged(fields: int, width: int, delimiter: str) -> str:
    counted = f"{fields} value{'' if fields == 1 else 's'}"
    return (
        f"{counted} (between {delimiter!r}), but the first line names {width} columns; {_QUOTING}"
    )


def _plainly(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quote that is opened in this row is never closed"
    if "field larger" in str(error):
        return f"a quote that is opened in this row is not closed within {MAX_LINE:,} characters"
    return short_repr(str(error))


class JsonLines(Table):
    """A JSON object in each line; its keys are the columns."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        super().__init__(path, progress)
        self._first = [record for _, record in itertools.islice(self._records(), SAMPLE)]
        self.columns = tuple(dict.fromkeys(key for record in self._first for key in record))

    def sample(self) -> list[Values]:
        """All columns of the first rows, ``None`` where one has no such key."""
        return [tuple(record.get(name) for name in self.columns) for record in self._first]

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """See :class:`Table`."""
        for line, record in self._records():
            lacking = [name for name in names if name not in record]
            if lacking:
                raise self.wrong(line, f"it has no {short_repr(lacking[0])}, only {listed(record)}")
            yield line, tuple(record[name] for name in names)

    def _records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for line, text in enumerate(self._lines(), start=1):
            if text.isspace():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                reason = f"it is not JSON ({str(error).removesuffix('.')})"
                raise self.wrong(line, f"{reason}; each line is one object") from error
            if not isinstance(record, dict):
                raise self.wrong(
                    line, f"it is {short_repr(record)}, not an object such as {_OBJECT}"
                )
            yield line, record


_OBJECT = '{"text": "a wonderful film", "label": "good"}'


class Parquet(Table):
    """A Parquet file, of which only the columns that are asked for are read."""

    unit = "row"

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        super().__init__(path, progress)
        self.columns = tuple(map(str, self._opened().schema_arrow.names))

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Values]]:
        """See :class:`Table`."""
        import pyarrow

        file, done = self._opened(names), 0
        self._check_packing(file.metadata, names)
        batches = file.iter_batches(batch_size=SAMPLE, columns=list(dict.fromkeys(names)))
        while True:
            try:
                batch = next(batches)
                columns = [_values(batch.column(name)) for name in names]
            except StopIteration:
                return
            except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
                reason = f"it cannot be read from here on ({_first_line(error)})"
                raise self.wrong(done + 1, reason) from error
            for values in zip(*columns, strict=True):
                done += 1
                if any(isinstance(value, str) and len(value) > MAX_LINE for value in values):
                    raise self.wrong(done, f"a value has more than {MAX_LINE:,} characters")
                yield done, values
            if self.progress is not None:
                self.progress(f"reading {self.path.name}", done, file.metadata.num_rows)

    def _check_packing(self, metadata: Any, names: Sequence[str]) -> None:
        """A few bytes may stand for a text that no memory holds."""
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                part = metadata.row_group(group).column(number)
                packed, unpacked = part.total_compressed_size, part.total_uncompressed_size
                wanted = part.path_in_schema.partition(".")[0] in names
                if wanted and unpacked > max(_FREE_BYTES, _MAX_RATIO * packed):
                    raise UserError(
                        f"{self.path} is not safe to read: {packed:,} bytes of its column "
                        f"{short_repr(part.path_in_schema)} would unpack to {unpacked:,}."
                    )

    def _opened(self, texts: Sequence[str] = ()) -> Any:
        """Of the columns ``texts`` equal values are kept once: they may be many, and long."""
        import pyarrow
        import pyarrow.parquet

        try:
            plainly = pyarrow.parquet.ParquetFile(self.path)
            known = [name for name in texts if name in plainly.schema.names]  # lists have others
            return pyarrow.parquet.ParquetFile(self.path, read_dictionary=known)
        except pyarrow.ArrowException as error:
            raise UserError(f"{self.path} is not Parquet: {_first_line(error)}.") from error


def _values(column: Any) -> list[Any]:
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        return list(column.to_pylist())
    known = column.dictionary.to_pylist()
    return [None if place is None else known[place] for place in column.indices.to_pylist()]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200].rstrip(".")


FORMATS: dict[str, type[Table]] = {
    ".csv": Csv,
    ".tsv": Csv,
    ".jsonl": JsonLines,
    ".parquet": Parquet,
}


def is_table(path: Path) -> bool:
    """Whether the name is that of a table."""
    return path.suffix.lower() in FORMATS


def open_table(path: Path, progress: Progress | None = None) -> Table:
    """The table in a file, by the ending of its name.

    Args:
        path: the file.
        progress: told how far it is read.

    Raises:
        UserError: it cannot be read, or holds no rows of the kind that its name says.
    """
    try:
        if not require_regular_file(path).stat().st_size:
            raise UserError(f"{path} is empty; a table has a row for each review.")
        table = FORMATS[path.suffix.lower()](path, progress)
        if not table.columns or next(table.rows(table.columns[:1]), None) is None:
            raise UserError(f"{path} has no rows but the names of columns; add a row a review.")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    return table


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names for a message; of many, the first."""
    known = list(names)
    rest = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(short_repr(name, 40) for name in known[:most]) + rest
