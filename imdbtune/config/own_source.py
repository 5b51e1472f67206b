"""A function in a file of the user's own, as plain values that travel with each trial."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from imdbtune.errors import UserError, quote_path, short_repr
from imdbtune.files import read_small_text


@dataclass(frozen=True)
class OwnSource:
    """The source of a user's own function.

    Args:
        file: name of the file, without its folder.
        function: its name in the file.
        text: the whole file.
    """

    file: str
    function: str
    text: str = field(repr=False)

    @property
    def reference(self) -> str:
        """File and function, such as ``my_metrics.py:gain``."""
        return f"{self.file}:{self.function}"

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def split_reference(text: str, kind: str, example: str) -> tuple[Path, str]:
    """Return the file and the function in a text such as ``my_model.py:build``.

    Args:
        kind: what the function is for messages, such as ``model``.
        example: a text of the right form.

    Raises:
        UserError: it has another form.
    """
    file, _, function = text.rpartition(":")
    if (
        not file.endswith(".py")
        or not function.isidentifier()
        or not Path(file).stem.isidentifier()
    ):
        raise UserError(
            f"{kind} {short_repr(text)} is not FILE.py:FUNCTION; write for example {example}, "
            "with a file name of letters, digits and _."
        )
    return Path(file), function


def read_own_text(path: Path, kind: str) -> str:
    """Return the source in a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return read_small_text(path)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{quote_path(path)} is not a text file in UTF-8: {error.reason}."
        ) from error
    except OSError as error:
        raise UserError(f"cannot read the {kind} {quote_path(path)}: {error.strerror}.") from error
