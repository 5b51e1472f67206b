"""Show the progress of stages of known length, such as a download: bars, or lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from imdbtune.cli.library_output import is_library_output_shown
from imdbtune.cli.tables import format_duration
from imdbtune.errors import escape_control

OnProgress = Callable[[str, int, int], None]  # name, done, total
INTERVAL_S = 5.0  # between two lines about a stage


def supports_live_display(console: Console) -> bool:
    """Return whether a live display is possible: a terminal that only we write to.

    Jupyter runs ``!`` commands in a pseudo-terminal whose cursor cannot move up.
    """
    in_notebook = "JPY_PARENT_PID" in os.environ  # Jupyter sets it for its kernels
    is_able = console.is_terminal and not console.is_dumb_terminal and not in_notebook
    return is_able and not is_library_output_shown()


def _ignore_progress(name: str, done: int, total: int) -> None:
    """Ignore the progress of a stage."""


@contextmanager
def show_stages(err: TextIO | None = None, quiet: bool = False) -> Iterator[OnProgress]:
    """Yield a callback that shows the progress of stages of known length: bars, or lines."""
    from rich.progress import Progress as Bars

    console = Console(file=err, stderr=True)
    if quiet or not supports_live_display(console):
        write = partial(typer.echo, file=err or sys.stderr)
        yield _ignore_progress if quiet else ProgressLines(write)
        return
    with Bars(console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(escape(escape_control(name)), total=total)
            bars.update(tasks[name], completed=done)

        yield advance


@dataclass
class ProgressLines:
    """Callback that writes the progress of stages and the time left, a line per interval."""

    write: Callable[[str], None]
    started: dict[str, float] = field(default_factory=dict)
    last_written: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, done: int, total: int) -> None:
        """Write a line when a stage begins, and one every few seconds."""
        now = time.monotonic()
        started = self.started.setdefault(name, now)
        if name not in self.last_written:
            self.last_written[name] = now
            self.write(f"{escape_control(name)} ...")
        if now - self.last_written[name] < INTERVAL_S or not 0 < done < total:
            return
        self.last_written[name] = now
        left = format_duration((now - started) / done * (total - done))
        self.write(f"{escape_control(name)}: {done / total:.0%}; about {left} left")
