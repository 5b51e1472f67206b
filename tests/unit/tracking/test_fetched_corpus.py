"""A corpus that a worker has fetched, and that is damaged later, is fetched again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imdbtune.data.corpus import read_corpus
from imdbtune.data.imdb import npz_corpus
from imdbtune.tracking import artifact_transfer
from imdbtune.tracking.connection import connect
from imdbtune.tracking.writer import SearchRun
from tests.support import new_store, tiny_corpus


@pytest.mark.parametrize("damage", ["changed", "missing", "another corpus"])
def test_a_damaged_copy_is_fetched_again(damage: str, tmp_path: Path) -> None:
    client = connect(new_store(tmp_path))
    corpus = npz_corpus(tiny_corpus(tmp_path), tmp_path / "cache")
    run = SearchRun.open(client, "far", "imdbtune", {}, "search").run_id
    artifact_transfer.send_corpus(client, run, corpus.folder)
    there = tmp_path / "there"
    place = artifact_transfer.fetch_corpus(client, run, corpus.digest, there)
    assert artifact_transfer.is_fetched(there, corpus.digest)
    if damage == "changed":
        (place / "word_index.json").write_text('{"film": 1}')
    elif damage == "missing":
        (place / "train_tokens.npy").unlink()
    else:
        (tmp_path / "imdb_word_index.json").write_text('{"film": 1}')
        shutil.rmtree(place)
        shutil.copytree(npz_corpus(tmp_path / "imdb.npz", tmp_path / "cache").folder, place)
    assert not artifact_transfer.is_fetched(there, corpus.digest)
    assert artifact_transfer.fetch_corpus(client, run, corpus.digest, there) == place
    assert read_corpus(place, verify=True).digest == corpus.digest
