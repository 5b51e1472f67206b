"""What processes that have died have left open in MLflow, and in their folders here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.cluster.local_executor import await_workers
from imdbtune.errors import Busy, SearchAborted, UserError
from imdbtune.search.resume import CUT_OFF, stored_config
from imdbtune.search.workspace import NEW, TRAINING, Home, homes, new_homes
from imdbtune.tracking import reader
from imdbtune.tracking.background_delivery import REQUEST_S, Courier
from imdbtune.tracking.connection import impatient
from imdbtune.tracking.writer import OPEN, Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

Say = Callable[[str], None]


def take_up_cut_off(client: MlflowClient, base: Path, say: Say) -> None:
    """Settle what died here while it used this store, but for searches that can go on.

    Those that died while their run was made get their final names. Trainings cannot go on: they
    are closed as KILLED, and their folders go away.
    """
    for home in new_homes(base):
        with contextlib.suppress(Busy):
            name_new(client, home, say)
    for home in homes(base):
        if home.kind != TRAINING or home.about.get("store") not in ("", client.tracking_uri):
            continue
        if reader.run_exists(client, home.run_id):
            with contextlib.suppress(SearchAborted), home.locked():
                settle(client, home, say)


def name_new(client: MlflowClient, home: Home, say: Say, is_its_store: bool = False) -> None:
    """Give the folder of what died while its run was made its final name, or take it away.

    Args:
        is_its_store: whether it is known that the run would be there; else as the folder notes.

    Raises:
        Busy: it has not died.
    """
    with home.locked():
        run_id = reader.find_run(client, home.folder.name.removeprefix(NEW))
        if run_id:
            home.renamed(run_id)
        elif is_its_store or home.about.get("store", client.tracking_uri) == client.tracking_uri:
            forget(home, say)


def forget(home: Home, say: Say) -> None:
    """Take away the folder of what died before MLflow had a run of it, which has done nothing."""
    say(f"{home.kind} {home.name} was cut off before MLflow had a run of it: nothing is missing.")
    home.discard()


def settle(client: MlflowClient, home: Home, say: Say) -> int:
    """Close what has no driver any more as KILLED, and deliver; returns how many calls were made.

    For the holder of the home's lock: where it can be had, no driver lives.

    Raises:
        NotDelivered: the store has not got all.
        SearchAborted: a worker lives on.
    """
    kind, name = home.kind, home.name
    courier = Courier(client, home.spool, home.run_id, None, say)
    with impatient(retries=1, timeout_s=REQUEST_S):
        if home.spool.is_open(home.run_id):
            await_workers(home.folder)
            for key in home.spool.open_runs():
                if key != home.run_id:
                    Run(home.spool, key).end("KILLED", CUT_OFF)
            courier.finish()
            # One that ended for want of room may have said so to the store alone.
            if client.get_run(home.run_id).info.status in OPEN:
                Run(home.spool, home.run_id).end("KILLED", CUT_OFF)
                if kind != TRAINING:
                    _publish(client, home)
                say(f"{kind} {name} (run {home.run_id}) was cut off: closed as KILLED.")
        courier.finish()
    if kind == TRAINING:
        home.discard()
    return courier.made


def _publish(client: MlflowClient, home: Home) -> None:
    """Let the page of a search show its end, if it is known what to show."""
    with contextlib.suppress(UserError):
        config = stored_config(client, reader.find_search(client, home.run_id))
        home.spool.publish(home.run_id, [d.name for d in config.space.searched] or ["rnn"], False)
