"""Transfers files between machines by way of MLflow's artifact store.

The reviews are stored once, with the run of the search. The files of a trial that the next trial or
the end of the search needs (its state, its model) are stored with the trial's run until the search
has ended.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from imdbtune.data.corpus import FILES, read_corpus
from imdbtune.errors import SearchAborted, UserError
from imdbtune.files import make_private_folder, sync_folder
from imdbtune.tracking import reader

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.tracking.entities import Search
    from imdbtune.tracking.outbox import Outbox

CORPUS = "corpus"  # folder of artifacts with the reviews, on the run of a search
KEPT = "kept"  # folder with the files of a trial that are needed again
CHECKPOINT = "checkpoint"  # folder with that of a trial that has not ended
REQUESTS = 8  # at the same time, where each trial needs one


def has_corpus(client: MlflowClient, run_id: str) -> bool:
    """Return whether a run has all files of a corpus."""
    there = {Path(artifact.path).name for artifact in client.list_artifacts(run_id, CORPUS)}
    return there >= set(FILES)


def send_corpus(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Upload a corpus to a run, for machines that do not see this disk."""
    for name in FILES:
        client.log_artifact(run_id, str(folder / name), CORPUS)


def corpus_place(cache: Path, digest: str) -> Path:
    """Return the folder of a corpus that was fetched."""
    return cache / "by_digest" / digest


def is_fetched(cache: Path, digest: str) -> bool:
    """Return whether a corpus that was fetched is in the cache, undamaged."""
    place = corpus_place(cache, digest)
    try:
        return place.is_dir() and read_corpus(place).digest == digest
    except UserError:
        return False


def fetch_corpus(client: MlflowClient, run_id: str, digest: str, cache: Path) -> Path:
    """The folder of a corpus, fetched if it is not in the cache yet; once for all processes there.

    Raises:
        SearchAborted: what arrives is not what was sent.
    """
    place = corpus_place(cache, digest)
    make_private_folder(place.parent)
    with filelock.FileLock(place.parent / f"{digest}.lock"):
        if is_fetched(cache, digest):
            return place
        with tempfile.TemporaryDirectory(dir=place.parent) as aside:
            arrived = Path(aside, CORPUS)
            arrived.mkdir(mode=0o700)
            for name in FILES:
                got = client.download_artifacts(run_id, f"{CORPUS}/{name}", aside)
                Path(got).replace(arrived / name)
            _check(arrived, digest)
            sync_folder(arrived)
            shutil.rmtree(place, ignore_errors=True)  # it is damaged
            arrived.rename(place)
    return place


def _check(arrived: Path, digest: str) -> None:
    try:
        found = read_corpus(arrived).digest
    except UserError as error:
        raise SearchAborted(f"the reviews are incomplete after their transfer: {error}") from error
    if found != digest:
        raise SearchAborted(
            f"the reviews differ after their transfer (digest {found[:12]}, not {digest[:12]}); "
            "does another program write to this run in MLflow?"
        )


def download_file(client: MlflowClient, run_id: str, path: Path, folder: str = KEPT) -> None:
    """Fetch a file that a remote trial has stored with its run; nothing if there is none."""
    names = {Path(artifact.path).name for artifact in client.list_artifacts(run_id, folder)}
    if path.name not in names:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        got = client.download_artifacts(run_id, f"{folder}/{path.name}", aside)
        Path(got).replace(path)


def upload_file(client: MlflowClient, run_id: str, path: Path) -> None:
    """Store a trial's file where :func:`download_file` finds it."""
    client.log_artifact(run_id, str(path), KEPT)


def delete_file(client: MlflowClient, run_id: str, folder: str) -> None:
    """Delete a folder of artifacts that is no longer needed.

    MLflow's client cannot delete artifacts; its registry of artifact stores, in MLflow 3.17, can.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    place = client.get_run(run_id).info.artifact_uri
    files = get_artifact_repository(place, str(client.tracking_uri))
    if files.list_artifacts(folder):
        files.delete_artifacts(folder)


def download_if_missing(client: MlflowClient, outbox: Outbox, key: str, path: Path) -> None:
    """Fetch the file of a run, given by its key in an outbox, unless the file is here already."""
    run_id = outbox.delivered(key).run_id
    if run_id and not path.exists():
        download_file(client, run_id, path)


def delete_leftovers(client: MlflowClient, search: Search, kept: bool) -> None:
    """Delete what was in MLflow only for the transfer: the reviews and, if ``kept``, all files.

    A trial that has a result has deleted its checkpoint itself.
    """
    with suppress(Exception), ThreadPoolExecutor(REQUESTS) as pool:  # the store may not permit it
        delete_file(client, search.run_id, CORPUS)
        trials = reader.read_trials(client, search)
        files = [(trial.run_id, CHECKPOINT) for trial in trials if not trial.has_result]
        files += [(trial.run_id, KEPT) for trial in trials] if kept else []
        list(pool.map(lambda file: delete_file(client, *file), files))
