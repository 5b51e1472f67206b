"""A corpus whose files change after they were written is noticed, and created again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imdbtune import doctor
from imdbtune.data import verified
from imdbtune.data.corpus import Corpus, CorpusDamaged, open_or_create, read_corpus
from imdbtune.data.imdb import npz_corpus
from imdbtune.errors import UserError
from tests.support import tiny_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return npz_corpus(tiny_corpus(tmp_path), tmp_path / "cache")


def in_new_process(folder: Path) -> None:
    """Forget what this process knows of a folder."""
    verified._noted.pop(folder, None)


def invert_labels(folder: Path) -> None:
    path = folder / "train_labels.npy"
    labels = np.load(path)
    np.save(path, 1 - labels)


def change_a_token(folder: Path) -> None:
    path = folder / "test_tokens.npy"
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\5\0\0\0")


def change_a_word(folder: Path) -> None:
    (folder / "word_index.json").write_text('{"film": 1}')


def rename_a_label(folder: Path) -> None:
    path = folder / "meta.json"
    path.write_text(path.read_text().replace("positive", "negatives"))


CHANGES = (invert_labels, change_a_token, change_a_word, rename_a_label)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_content_is_damage(change: Callable[[Path], None], corpus: Corpus) -> None:
    change(corpus.folder)
    with pytest.raises(CorpusDamaged, match=r"digest .*delete that folder"):
        read_corpus(corpus.folder)
    in_new_process(corpus.folder)
    with pytest.raises(CorpusDamaged):
        read_corpus(corpus.folder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_corpus_is_created_again(
    change: Callable[[Path], None], corpus: Corpus, tmp_path: Path
) -> None:
    labels = corpus.train.labels.tolist()
    change(corpus.folder)
    again = npz_corpus(tmp_path / "imdb.npz", tmp_path / "cache")
    assert (again.digest, again.folder) == (corpus.digest, corpus.folder)
    assert again.train.labels.tolist() == labels
    assert {path.name for path in corpus.folder.parent.iterdir()} == {
        corpus.folder.name,
        f"{corpus.folder.name}.lock",
    }


def test_a_damaged_corpus_stays_if_it_cannot_be_created_again(corpus: Corpus) -> None:
    def fail() -> Corpus:
        raise UserError("there is no network.")

    invert_labels(corpus.folder)
    with pytest.raises(UserError, match=r"delete that folder.* again: there is no network"):
        open_or_create(corpus.folder, fail)
    assert len(list(corpus.folder.glob("*.npy"))) == 6
    assert len(list(corpus.folder.parent.iterdir())) == 2


def test_what_killed_processes_left_is_deleted(corpus: Corpus, tmp_path: Path) -> None:
    leftover = corpus.folder.with_name(f".{corpus.folder.name}.abc")
    leftover.mkdir()
    change_a_token(corpus.folder)
    npz_corpus(tmp_path / "imdb.npz", tmp_path / "cache")
    assert not leftover.exists()


def test_a_corpus_is_verified_once_in_all_processes(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_new_process(corpus.folder)
    monkeypatch.delattr("imdbtune.data.corpus.digest_of")
    assert read_corpus(corpus.folder).digest == corpus.digest


def test_in_a_folder_that_cannot_be_written_each_process_verifies_once(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = corpus.folder / verified.NOTE
    note.unlink()
    note.mkdir()
    in_new_process(corpus.folder)
    read_corpus(corpus.folder)
    monkeypatch.delattr("imdbtune.data.corpus.digest_of")
    read_corpus(corpus.folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[" * 100_000, "\0", '{"meta.json": 1}'])
def test_a_damaged_note_is_no_verification(content: str, corpus: Corpus) -> None:
    change_a_token(corpus.folder)
    (corpus.folder / verified.NOTE).write_text(content)
    in_new_process(corpus.folder)
    with pytest.raises(CorpusDamaged):
        read_corpus(corpus.folder)


def test_a_change_that_keeps_size_and_time_is_noticed(corpus: Corpus) -> None:
    path = corpus.folder / "test_tokens.npy"
    before = path.stat()
    time.sleep(0.02)  # the resolution of times
    change_a_token(corpus.folder)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CorpusDamaged):
        read_corpus(corpus.folder)


def test_a_verified_corpus_opens_in_milliseconds(corpus: Corpus) -> None:
    durations = []
    for _ in range(5):
        in_new_process(corpus.folder)
        started = time.perf_counter()
        read_corpus(corpus.folder)
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.02


@pytest.mark.parametrize(
    "changed",
    [
        *({"labels": value} for value in (5, None, ["one"], ["a", "b", "c"], {})),
        *({"reading": value} for value in (5, None, "ab", [1])),
        *({"notes": value} for value in (5, None)),
        *({"digest": value} for value in (5, None, "", [])),
    ],
    ids=str,
)
def test_invalid_fields_of_the_meta_file_are_damage(
    changed: dict[str, object], corpus: Corpus
) -> None:
    path = corpus.folder / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(CorpusDamaged):
        read_corpus(corpus.folder)


@pytest.mark.parametrize("name", ["meta.json", "word_index.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000])
def test_json_that_python_cannot_parse_is_damage(name: str, content: str, corpus: Corpus) -> None:
    (corpus.folder / name).write_text(content)
    with pytest.raises(CorpusDamaged):
        read_corpus(corpus.folder)


@pytest.mark.parametrize("change", CHANGES)
def test_the_doctor_trusts_no_note(
    change: Callable[[Path], None],
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(corpus.folder)
    state = verified.state_of(corpus.folder, [path.name for path in corpus.folder.iterdir()])
    monkeypatch.setattr("imdbtune.data.corpus.is_verified", lambda *_: True)
    check = doctor.reviews(tmp_path / "cache")
    assert check.state == doctor.PROBLEM
    assert str(corpus.folder) in check.remedy
    names = [path.name for path in corpus.folder.iterdir()]
    assert verified.state_of(corpus.folder, names) == state  # it leaves no trace
