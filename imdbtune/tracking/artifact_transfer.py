"""Files that travel between machines by way of MLflow's artifact store.

The reviews lie with the run of the search, once; what the next trial or the end of the search
needs of a trial (its state, its model) lies with the trial's run until the search is through.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from imdbtune.data.corpus import FILES, digest_of, read_corpus
from imdbtune.errors import SearchAborted, UserError
from imdbtune.files import sync_folder
from imdbtune.tracking import reader

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from imdbtune.tracking.outbox import Outbox
    from imdbtune.tracking.reader import Search

CORPUS = "corpus"  # folder of artifacts with the reviews, on the run of a search
KEPT = "kept"  # folder with a trial's files that are needed again
REQUESTS = 8  # at once, where there is one for each trial


def has_corpus(client: MlflowClient, run_id: str) -> bool:
    """Whether all files of a corpus lie with a run."""
    there = {Path(artifact.path).name for artifact in client.list_artifacts(run_id, CORPUS)}
    return there >= set(FILES)


def send_corpus(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Put a corpus where machines that do not see this disk can fetch it."""
    for name in FILES:
        client.log_artifact(run_id, str(folder / name), CORPUS)


def corpus_place(cache: Path, digest: str) -> Path:
    """The folder in which a corpus that was fetched is kept."""
    return cache / "by_digest" / digest


def fetch_corpus(client: MlflowClient, run_id: str, digest: str, cache: Path) -> Path:
    """The folder of a corpus, fetched if it is not in the cache yet; once for all processes there.

    Raises:
        SearchAborted: what arrives is not what was sent.
    """
    place = corpus_place(cache, digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(place.parent / f"{digest}.lock"):
        if place.is_dir():
            return place
        with tempfile.TemporaryDirectory(dir=place.parent) as aside:
            arrived = Path(aside, CORPUS)
            arrived.mkdir()
            for name in FILES:
                got = client.download_artifacts(run_id, f"{CORPUS}/{name}", aside)
                Path(got).replace(arrived / name)
            _check(arrived, digest)
            sync_folder(arrived)
            arrived.rename(place)
    return place


def _check(arrived: Path, digest: str) -> None:
    try:
        found = digest_of(read_corpus(arrived))
    except UserError as error:
        raise SearchAborted(f"the reviews have not arrived whole: {error}") from error
    if found != digest:
        raise SearchAborted(
            f"the reviews that have arrived are others (digest {found[:12]}, not {digest[:12]}); "
            "is somebody else writing to this run of MLflow's?"
        )


def download_file(client: MlflowClient, run_id: str, path: Path) -> None:
    """Fetch a file that a trial elsewhere has left with its run; nothing if there is none."""
    names = {Path(artifact.path).name for artifact in client.list_artifacts(run_id, KEPT)}
    if path.name not in names:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        got = client.download_artifacts(run_id, f"{KEPT}/{path.name}", aside)
        Path(got).replace(path)


def upload_file(client: MlflowClient, run_id: str, path: Path) -> None:
    """Put a trial's file where :func:`download_file` finds it."""
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
    """As :func:`download_file`, of a run by its key in an outbox, where the "
    "file is not here already."""
    run_id = outbox.delivered(key).run_id
    if run_id and not path.exists():
        download_file(client, run_id, path)


def delete_leftovers(client: MlflowClient, search: Search, kept: bool) -> None:
    """Take away what was in MLflow only to travel: the reviews, and if ``kept`` all files left."""
    with suppress(Exception), ThreadPoolExecutor(REQUESTS) as pool:  # somebody may not permit that
        delete_file(client, search.run_id, CORPUS)
        runs = [trial.run_id for trial in reader.read_trials(client, search)] if kept else []
        list(pool.map(lambda run_id: delete_file(client, run_id, KEPT), runs))
