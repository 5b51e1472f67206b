"""The time by which a search has to be done, with its final page and report."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from imdbtune.errors import UserError, short_repr

FINISH_S = 20.0  # from the end of the last trial to that of the command
START_S = 10.0  # from the start of a trial to its first step
SHORTEST_S = 60.0  # in which a search can begin a trial
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass
class Deadline:
    """Decides whether there is time for another epoch.

    An epoch is assumed to take as long as the longest one so far, of any trial.

    Args:
        end: by ``clock``.
        clock: monotonic, in seconds.
    """

    end: float
    clock: Callable[[], float]
    longest_epoch_s: float = 0.0

    def note_epoch(self, seconds: float) -> None:
        """Note how long an epoch has taken."""
        self.longest_epoch_s = max(self.longest_epoch_s, seconds)

    def allows_trial(self) -> bool:
        """Return whether a trial that starts now ends an epoch in time."""
        return self._allows(START_S + self.longest_epoch_s)

    def allows_epoch(self, seconds: float) -> bool:
        """Return whether another epoch as long as this one ends in time."""
        return self._allows(seconds)

    def _allows(self, seconds: float) -> bool:
        return self.clock() + seconds + FINISH_S <= self.end


def parse_deadline(text: str, now: datetime) -> datetime:
    """Return the time in ``90m``, ``1h30m`` or ``45s`` from now, or at ``18:30`` today.

    ``2026-11-30T06:00`` is a time on another day.

    Raises:
        UserError: the text is none of these, or the time has passed or is too near.
    """
    at = _parse(text.strip(), now)
    if at is None:
        raise UserError(
            f"deadline {short_repr(text)} is not a time; write 90m or 1h30m from now, 18:30 today, "
            "or 2026-11-30T06:00."
        )
    left = (at - now).total_seconds()
    if left < SHORTEST_S:
        state = "has passed" if left <= 0 else f"is only {left:.0f} s away"
        raise UserError(
            f"the deadline {short_repr(text)} {state}; a search needs at least {SHORTEST_S:.0f} s."
        )
    return at


def _parse(text: str, now: datetime) -> datetime | None:
    if text and re.fullmatch(r"(?:\d{1,4}h)?(?:\d{1,5}m)?(?:\d{1,6}s)?", text, re.ASCII):
        parts = re.findall(r"(\d+)([hms])", text)
        return now + timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in parts))
    if clock := re.fullmatch(r"(\d{1,2}):(\d\d)", text, re.ASCII):
        hour, minute = map(int, clock.groups())
        if hour > 23 or minute > 59:
            return None
        return now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    try:
        return datetime.fromisoformat(text).replace(tzinfo=now.tzinfo)
    except ValueError:
        return None
