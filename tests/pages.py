"""The commands, files and code that the README and the pages of ``docs/`` show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = "README.md"
FILES = [ROOT / README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FILES}


def blocks(language: str, pages: Iterable[str] = PAGES) -> list[str]:
    """Return the code blocks of a language on these pages."""
    fenced = rf"^```{language}\n(.*?)^```"
    found = (re.findall(fenced, PAGES[page], re.MULTILINE | re.DOTALL) for page in pages)
    return [block for page in found for block in page]


def lines(pages: Iterable[str] = PAGES) -> list[str]:
    """Return the lines of shell code."""
    return [line for block in blocks("bash", pages) for line in block.splitlines()]


def calls(program: str, pages: Iterable[str] = PAGES) -> list[list[str]]:
    """Return the arguments of each different call of ``program``, also in pipes."""
    found = []
    for line in lines(pages):
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        for command in _split(words):
            if command[0].rpartition("/")[2] == program and command[1:] not in found:
                found.append(command[1:])
    return found


def _split(words: Iterator[str]) -> list[list[str]]:
    """Return the simple commands of a line, without redirections."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("|", "&&", ";"):
            commands.append([])
        elif word in (">", "<"):
            next(words)
        else:
            commands[-1].append(word)
    return commands


# The configuration files in the pages, by the names in their first lines.
TOML = {text.splitlines()[0].removeprefix("# "): text for text in blocks("toml")}
