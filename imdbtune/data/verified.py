"""Notes that the files in a folder have been verified, until one of them changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from imdbtune.files import read_small_text, replace_file

NOTE = "verified.json"  # in the folder

# Name of a file -> what differs as soon as the file has been written to or replaced.
State = Mapping[str, Sequence[int]]

_noted: dict[Path, State] = {}  # by this process, for folders that cannot be written


def state_of(folder: Path, names: Sequence[str]) -> State:
    """Return the state of files in a folder; empty if one is missing."""
    state = {}
    with suppress(OSError):
        for name in names:
            status = (folder / name).stat()
            times = (status.st_mtime_ns, status.st_ctime_ns)
            state[name] = [status.st_size, status.st_ino, *times]
    return state if len(state) == len(names) else {}


def is_verified(folder: Path, state: State) -> bool:
    """Return whether files were verified in this state."""
    if not state:
        return False
    if _noted.get(folder) == state:
        return True
    with suppress(OSError, ValueError, RecursionError):
        return bool(json.loads(read_small_text(folder / NOTE)) == state)
    return False


def note_verified(folder: Path, state: State) -> None:
    """Note that files were verified in this state."""
    _noted[folder] = state
    with suppress(OSError):
        replace_file(folder / NOTE, state)
