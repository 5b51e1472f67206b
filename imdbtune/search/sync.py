"""Brings into MLflow what the folders of searches and trainings still have for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imdbtune.errors import Busy, Deleted, NotDelivered, UserError, shown
from imdbtune.search.crash_recovery import Say, forget, name_new, settle
from imdbtune.search.workspace import Home, homes, new_homes
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect_existing, hide_secrets, is_missing


@dataclass(frozen=True)
class Synced:
    """What was done for a search or training: how many calls were made, or why none could be."""

    name: str
    run_id: str
    calls: int
    kind: str = "search"
    problem: str = ""


def sync_folder(base: Path, search_ref: str | None, uri: str, say: Say) -> list[Synced]:
    """Bring in what MLflow lacks of the searches in a folder; see :func:`imdbtune.api.sync`.

    What one of several cannot do holds up no other.
    """
    begun = [home for home in new_homes(base) if search_ref in (None, home.name)]
    done = [made for home in begun for made in _try_new(home, uri, say)]
    chosen = [home for home in homes(base) if search_ref in (None, home.run_id, home.name)]
    if not chosen and not begun:
        what = f"no search {shown(search_ref)}" if search_ref else "no search"
        raise UserError(f"{what} in {base}; run this in the folder in which it was begun.")
    for home in chosen:
        try:
            done.append(_sync(home, uri, say))
        except (Busy, Deleted) as error:
            if search_ref is not None:
                raise
            say(str(error))
        except (UserError, NotDelivered) as error:
            if len(chosen) + len(begun) == 1:
                raise
            done.append(Synced(home.name, home.run_id, 0, home.kind, str(error)))
    return done


def _try_new(home: Home, uri: str, say: Say) -> list[Synced]:
    """Settle what died before it knew of its run; it has no result yet, but may have a problem."""
    name, kind = home.name, home.kind
    store = uri or home.about.get("store", "")
    try:
        if is_missing(store):
            with home.locked():
                forget(home, say)
        else:
            name_new(connect_existing(store, say), home, say, is_its_store=bool(store))
    except Busy as error:
        say(str(error))
    except UserError as error:
        return [Synced(name, "", 0, kind, str(error))]
    return []


def _sync(home: Home, uri: str, say: Say) -> Synced:
    name, kind = home.name, home.kind
    with home.locked():
        if home.spool.is_delivered() and not home.spool.is_open(home.run_id):
            return Synced(name, home.run_id, 0, kind)
        client = connect_existing(uri or home.about.get("store", ""), say)
        if not reader.run_exists(client, home.run_id):
            raise UserError(
                f"{kind} {name!r} (run {home.run_id}) is not in "
                f"{hide_secrets(str(client.tracking_uri))}; name its store with --tracking-uri."
            )
        reader.check_not_deleted(client, home.run_id, f"{kind} {name!r}")
        return Synced(name, home.run_id, settle(client, home, say), kind)
