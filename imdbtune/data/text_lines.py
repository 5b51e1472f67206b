"""Read text in UTF-8 line by line, with errors that name the line and the byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from imdbtune.errors import UserError

MAX_LINE = 2**24  # bytes
_UTF16 = ("fffe", "feff")


class LineError(Protocol):
    """Makes the error for a problem in one line, with its number from 1."""

    def __call__(self, number: int, problem: str, /) -> UserError:
        """Return the error."""


def read_text_lines(file: BinaryIO, line_error: LineError, content: str) -> Iterator[str]:
    """Yield the lines of a text in UTF-8, with their line breaks; drop a byte order mark.

    Args:
        file: the text; it is read as a stream.
        line_error: makes the errors that this raises.
        content: what the text should be, for the message about a line without an end.

    Raises:
        UserError: it is not UTF-8, has a zero byte, or a line of more than ``MAX_LINE`` bytes.
    """
    done = 0
    for number in itertools.count(1):
        raw = file.readline(MAX_LINE)
        if not raw:
            return
        if len(raw) == MAX_LINE:
            raise line_error(number, f"it is longer than {MAX_LINE:,} bytes; this is not {content}")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at = f"byte {done + error.start:,} of the file is 0x{raw[error.start]:02x}"
            guess = "UTF-16" if number == 1 and raw[:2].hex() in _UTF16 else "another encoding"
            problem = f"{at}, which is not UTF-8: it is in {guess}, or not text; save it as UTF-8"
            raise line_error(number, problem) from error
        if "\0" in text:
            at = f"byte {done + raw.index(0):,} of the file is zero"
            problem = f"{at}, which text never has; this file has another format"
            raise line_error(number, problem)
        yield text.removeprefix("\ufeff") if number == 1 else text
        done += len(raw)
