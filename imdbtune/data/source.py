"""The interface of a data source, and the request to open one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdbtune.config.schema import TableConfig
from imdbtune.data.corpus import Corpus
from imdbtune.data.download import Progress
from imdbtune.errors import UserError, short_repr


@dataclass(frozen=True)
class Request:
    """What is to be opened, and how."""

    text: str  # what the user wrote: a name, a path
    cache: Path  # folder for downloads and converted corpora
    config: TableConfig
    notify: Callable[[str], None]  # receives lines for the user
    progress: Progress | None = None  # receives the name, the amount done and the amount in all

    @property
    def path(self) -> Path:
        """The path that the text is."""
        return expand(self.text)


@dataclass(frozen=True)
class Source:
    """A data source; the name in the registry says which texts name it.

    A word, such as ``demo``, names it itself. ``PATH.npz`` stands for any path with that ending,
    ``scheme:NAME`` for any text with that beginning, and ``FOLDER`` for an existing folder that
    no other source claims.
    """

    about: str  # in a few words, Markdown
    open: Callable[[Request], Corpus]
    # Raises UserError if ``open`` would reject the text, without opening it; returns how a table
    # or folder would be read, if it is one.
    check: Callable[[str, TableConfig], dict[str, Any]] = lambda text, config: {}
    # Checks the contents of a text that ``check`` has accepted, as far as that takes less than a
    # second; raises UserError if ``open`` would reject them.
    check_contents: Callable[[str, TableConfig], None] = lambda text, config: None
    has_settings: bool = False  # it reads TableConfig; other sources reject its settings


def expand(text: str) -> Path:
    """Return a text as a path, with ``~`` replaced.

    Raises:
        UserError: it names the home of an unknown user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{short_repr(text)} names the home of an unknown user; write ./~ for a literal ~."
        ) from error
