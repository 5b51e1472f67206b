from __future__ import annotations

import dataclasses
import functools
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from imdbtune.config.extensions import SOURCES
from imdbtune.config.schema import TableConfig
from imdbtune.data.cache import sha256
from imdbtune.data.corpus import NewCorpus, make_split, write_corpus
from imdbtune.data.download import DownloadFailed, RemoteFile
from imdbtune.data.imdb import imdb_corpus, npz_corpus, read_word_index
from imdbtune.data.sources import (
    check_source,
    default_cache,
    describe,
    find_source,
    open_corpus,
    place_of,
)
from imdbtune.errors import UserError

MakeNpz = Callable[..., bytes]


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RemoteFile, RemoteFile]]:
    """The files of IMDB, on a port where nobody answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}"
        files = (
            RemoteFile(f"{base}/imdb.npz", 9, "0" * 64),
            RemoteFile(f"{base}/imdb_word_index.json", 9, "1" * 64),
        )
        for module in ("imdb_source", "auto_source"):
            download = functools.partial(imdb_corpus, files=files)
            monkeypatch.setattr(f"imdbtune.data.{module}.imdb_corpus", download)
        yield files


@pytest.fixture
def npz(tmp_path: Path, small_npz: MakeNpz) -> Path:
    path = tmp_path / "mine" / "small.npz"
    path.parent.mkdir()
    path.write_bytes(small_npz())
    return path


def silent(message: str) -> None:
    raise AssertionError(f"unexpected message: {message}")


def test_the_cache_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMDBTUNE_CACHE", "~/other")
    assert default_cache() == Path.home() / "other"
    monkeypatch.delenv("IMDBTUNE_CACHE")
    assert default_cache().name == "imdbtune"


def test_auto_falls_back_to_the_demo_corpus_and_says_why(
    tmp_path: Path, unreachable: tuple[RemoteFile, RemoteFile]
) -> None:
    messages: list[str] = []
    corpus = open_corpus("auto", tmp_path, messages.append)
    assert corpus.name == "demo"
    (message,) = messages
    assert "Using the built-in demo corpus, not IMDB" in message
    assert unreachable[0].url in message
    assert "--data PATH/imdb.npz" in message


def test_auto_takes_imdb_from_the_cache(
    tmp_path: Path, unreachable: tuple[RemoteFile, RemoteFile]
) -> None:
    split = make_split([[1, 5], [1, 6]], [0, 1])
    folder = tmp_path / "corpora" / f"imdb-{'0' * 16}-{'1' * 8}"
    write_corpus(folder, NewCorpus("imdb", "", split, split, {}))
    assert open_corpus("auto", tmp_path, silent).name == "imdb"


def test_auto_does_not_hide_a_damaged_cache(
    tmp_path: Path, unreachable: tuple[RemoteFile, RemoteFile]
) -> None:
    (tmp_path / "corpora" / f"imdb-{'0' * 16}-{'1' * 8}").mkdir(parents=True)
    with pytest.raises(UserError, match="is damaged"):
        open_corpus("auto", tmp_path, silent)


def test_imdb_by_name_is_imdb_or_an_error(
    tmp_path: Path, unreachable: tuple[RemoteFile, RemoteFile]
) -> None:
    with pytest.raises(DownloadFailed, match="refused"):
        open_corpus("imdb", tmp_path, silent)


def test_demo_needs_no_network(tmp_path: Path) -> None:
    assert open_corpus("demo", tmp_path, silent).name == "demo"


@pytest.mark.parametrize("source", ["", "imbd", "IMDB", "reviews.xlsx", "/no/such"])
def test_an_unknown_source_lists_what_is_allowed(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError, match=r"allowed: auto, imdb, demo, PATH\.npz"):
        open_corpus(source, tmp_path, silent)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("auto", "auto"),
        ("demo", "demo"),
        ("mine/imdb.npz", "PATH.npz"),
        (".npz", "PATH.npz"),
        ("no/such/Reviews.CSV", "PATH.csv"),
        ("a.b.parquet", "PATH.parquet"),
        (f"{'x' * 300}.tsv", "PATH.tsv"),
        ("~nobody-by-this-name/a.jsonl", "PATH.jsonl"),
        ("./demo", "FOLDER"),
        ("own/", "FOLDER"),
        ("tables.csv", "PATH.csv"),
    ],
)
def test_which_source_a_text_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("demo", "own", "tables.csv"):
        Path(folder).mkdir()
    assert find_source(text) == name


def test_a_source_may_be_written_like_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SOURCES, "added", {"toy:NAME": "no_such_module:x"})
    assert find_source("toy:reviews") == "toy:NAME"
    assert find_source("toy:reviews.csv") == "PATH.csv"
    with pytest.raises(UserError, match="data source 'toy' is not known"):
        find_source("toy")


@pytest.mark.parametrize("text", ["FOLDER", "PATH", "imdb ", "no/such/folder", "x" * 300])
def test_what_no_source_reads(text: str) -> None:
    with pytest.raises(UserError, match=r"allowed: auto, imdb, demo, PATH\.npz, .*, FOLDER\."):
        find_source(text)


def test_a_folder_with_the_ending_of_a_table_is_read_as_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no folder train"):
        check_source(str(tmp_path))
    folder = tmp_path / "own.csv"
    folder.mkdir()
    with pytest.raises(UserError, match="has no folder train"):
        check_source(str(folder))
    with pytest.raises(UserError, match="has no folder train"):
        open_corpus(str(folder), tmp_path / "cache", silent)


@pytest.mark.parametrize("source", ["demo", "mine.npz"])
def test_settings_of_tables_are_refused_elsewhere(tmp_path: Path, source: str) -> None:
    config = TableConfig(text_column="body")
    with pytest.raises(UserError, match="text_column applies to tables and folders of reviews"):
        check_source(source, config)
    with pytest.raises(UserError, match="text_column applies to tables and folders of reviews"):
        open_corpus(source, tmp_path, silent, config=config)


def test_a_corpus_is_opened_again_by_its_name_or_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npz: Path
) -> None:
    monkeypatch.chdir(npz.parent)
    corpus = open_corpus("small.npz", tmp_path / "cache", silent)
    assert place_of("small.npz", corpus) == str(npz)
    assert place_of("auto", dataclasses.replace(corpus, name="demo")) == "demo"


def test_a_file_of_the_user_is_converted_once(tmp_path: Path, npz: Path) -> None:
    cache = tmp_path / "cache"
    corpus = open_corpus(str(npz), cache, silent)
    assert (corpus.name, corpus.title) == (
        "npz",
        "small.npz: 3 reviews to train on, 3 to test",
    )
    assert corpus.word_index() == {}
    assert describe(corpus)["vocabulary"] == 700
    inode = corpus.folder.stat().st_ino
    assert npz_corpus(npz, cache).folder.stat().st_ino == inode


def test_the_word_index_beside_the_file_is_used_as_soon_as_it_is_there(
    tmp_path: Path, npz: Path
) -> None:
    without = npz_corpus(npz, tmp_path / "cache")
    (npz.parent / "imdb_word_index.json").write_text('{"film": 1, "the": 2}')
    corpus = npz_corpus(npz, tmp_path / "cache")
    assert corpus.word_index() == {"film": 1, "the": 2}
    assert corpus.digest != without.digest


def test_the_word_index_of_imdb_is_not_given_to_other_reviews(tmp_path: Path, npz: Path) -> None:
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / "imdb_word_index.json").write_text('{"film": 1}')
    assert npz_corpus(npz, tmp_path / "cache").word_index() == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 0}', '{"a": -1}', '{"a": 1.5}', '{"a": true}', '{"a": "1"}']
)
def test_a_word_index_is_checked(tmp_path: Path, npz: Path, text: str) -> None:
    (npz.parent / "imdb_word_index.json").write_text(text)
    with pytest.raises(UserError, match=r"imdb_word_index\.json is not a word index"):
        npz_corpus(npz, tmp_path / "cache")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[" * 200_000])
def test_a_word_index_that_no_parser_reads_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "words.json").write_bytes(data)
    with pytest.raises(UserError, match="is not a word index"):
        read_word_index(tmp_path / "words.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.npz cannot be read: No such file"):
        open_corpus(str(tmp_path / "none.npz"), tmp_path, silent)


def test_a_bad_file_leaves_no_corpus(tmp_path: Path, npz: Path) -> None:
    npz.write_bytes(npz.read_bytes()[:-30])
    with pytest.raises(UserError, match="is not an imdb"):
        npz_corpus(npz, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "corpora").iterdir() if path.is_dir()]


def test_describe_counts(tmp_path: Path) -> None:
    train = make_split([[1] * n for n in range(1, 12)], [1] * 4 + [0] * 7)
    test = make_split([[1, 4], [1, 5]], np.array([0, 1]))
    new = NewCorpus("tiny", "Tiny", train, test, {"film": 1, "the": 2})
    corpus = write_corpus(tmp_path / "c", new)
    facts = describe(corpus)
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {
        "name": "tiny",
        "title": "Tiny",
        "digest": corpus.digest,
        "folder": str(tmp_path / "c"),
        "labels": ["negative", "positive"],
        "reading": {},
        "notes": [],
        "vocabulary": 2,
        "train": {
            "rows": 11,
            "positive": 4,
            "negative": 7,
            "tokens": 66,
            "length_mean": 6.0,
            "length_median": 6.0,
            "length_p90": 10.0,
            "length_max": 11,
        },
        "test": {
            "rows": 2,
            "positive": 1,
            "negative": 1,
            "tokens": 4,
            "length_mean": 2.0,
            "length_median": 2.0,
            "length_p90": 2.0,
            "length_max": 2,
        },
    }


def test_a_file_and_the_download_of_it_share_a_folder(
    tmp_path: Path, npz: Path, unreachable: tuple[RemoteFile, RemoteFile]
) -> None:
    words = npz.parent / "imdb_word_index.json"
    words.write_text('{"film": 1}')
    first = npz_corpus(npz, tmp_path / "cache")
    files = tuple(
        RemoteFile(remote.url, path.stat().st_size, sha256(path))
        for remote, path in zip(unreachable, (npz, words), strict=True)
    )
    assert imdb_corpus(tmp_path / "cache", None, files).folder == first.folder
