"""Carries the driver's decision after each epoch, whether a trial goes on, to its worker.

The worker reports the epoch as an event and waits for the answer. It could go on and look for the
answer after the next epoch, but then it would depend on time when a trial ends, and a search with
one worker would not repeat itself. The answer takes milliseconds; an epoch takes seconds.

The answer is two events of Dask, which live in the scheduler: one for each epoch that says that the
driver has decided, and one for the trial that says that it is pruned. A worker that gets no answer
in time goes on, and hears after a later epoch that its trial was pruned.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

# A driver is busy for seconds where its sampler fits a model; longer, and it is gone.
ANSWER_S = 20.0


def _decided(task: str, epoch: int) -> str:
    return f"imdbtune-decided-{task}-{epoch}"


def _pruned(task: str) -> str:
    return f"imdbtune-pruned-{task}"


def await_decision(task: str, epoch: int) -> bool:
    """Return whether a trial is to be pruned after this epoch; called in its task.

    Without an answer in ``ANSWER_S`` the trial goes on.

    Args:
        task: key of the Dask task that runs the trial.
        epoch: the epoch that was reported.
    """
    from distributed import Event

    with suppress(Exception):  # the scheduler is lost; Dask raises exceptions of several types
        decided, pruned = Event(_decided(task, epoch)), Event(_pruned(task))
        decided.wait(timeout=ANSWER_S)
        decided.clear()  # removes it from the scheduler
        if pruned.is_set():
            pruned.clear()
            return True
    return False


def send_decision(client: Client, task: str, epoch: int, prune: bool) -> None:
    """Send the driver's decision to the worker that waits for it."""
    from distributed import Event

    with suppress(Exception):  # the executor notices a lost scheduler itself
        if prune:
            Event(_pruned(task), client).set()
        Event(_decided(task, epoch), client).set()
