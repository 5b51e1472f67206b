"""What is wrong with a source is told before anything is converted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from imdbtune.config.schema import TableConfig
from imdbtune.data import preview
from imdbtune.data.sources import check_contents, check_source, open_corpus
from imdbtune.errors import UserError
from tests.broken_inputs import CORPORA, break_corpora
from tests.support import tiny_corpus

# What only the pickles of the reviews say.
IN_THE_REVIEWS = ("strings", "negative", "code")
GOOD = "text,label\n" + "a good film,1\na poor film,0\n" * 600
TABLES = {
    "one label": "text,label\n" + "a film,1\n" * 20,
    "a label with one row far down": GOOD + "a film,2\n",
    "a damaged row far down": GOOD + '"a film,1\n',
    "no words": "text,label\n" + "...,1\n!!!,0\n" * 20,
    "too few": "text,label\na,1\nb,0\n",
    "nothing to test": "text,label,split\na,1,train\nb,0,train\n",
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    tiny_corpus(folder)
    break_corpora(folder)
    return folder


def refusal(source: Path, cache: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_corpus(str(source), cache, pytest.fail)
    return str(caught.value)


@pytest.mark.parametrize("name", CORPORA)
def test_a_small_archive_is_refused_as_loading_refuses_it(
    name: str, corpora: Path, tmp_path: Path
) -> None:
    path = corpora / f"{name}.npz"
    with pytest.raises(UserError) as caught:
        check_contents(str(path), TableConfig())
    assert str(caught.value) == refusal(path, tmp_path)


@pytest.mark.parametrize("name", CORPORA)
def test_a_large_archive_is_refused_unless_only_its_reviews_are_wrong(
    name: str, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "SMALL_BYTES", 0)
    path = str(corpora / f"{name}.npz")
    if name in IN_THE_REVIEWS:
        check_contents(path, TableConfig())
        return
    with pytest.raises(UserError, match=f"{name}.npz is not an imdb.npz"):
        check_contents(path, TableConfig())


def test_a_damaged_word_index_is_refused(tmp_path: Path) -> None:
    path = tiny_corpus(tmp_path)
    check_contents(str(path), TableConfig())
    (tmp_path / "imdb_word_index.json").write_text("[]")
    with pytest.raises(UserError, match="is not a word index"):
        check_contents(str(path), TableConfig())


@pytest.mark.parametrize("name", TABLES)
def test_a_small_table_is_refused_as_loading_refuses_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(TABLES[name])
    check_source(str(path))  # looks at the first rows only
    with pytest.raises(UserError) as caught:
        check_contents(str(path), TableConfig())
    assert str(caught.value) == refusal(path, tmp_path)


def test_files_of_a_small_folder_are_read(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            folder = tmp_path / "own" / part / label
            folder.mkdir(parents=True)
            (folder / "1.txt").write_text("a film")
    check_contents(str(tmp_path / "own"), TableConfig())
    (tmp_path / "own" / "train" / "pos" / "2.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"2\.txt is not UTF-8"):
        check_contents(str(tmp_path / "own"), TableConfig())


@pytest.mark.parametrize("source", ["auto", "imdb", "demo"])
def test_what_has_no_file_is_not_checked(source: str) -> None:
    check_contents(source, TableConfig())


def test_the_check_takes_less_than_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    reviews = np.empty(25_000, object)
    reviews[:] = [rng.integers(1, 20_000, 100).tolist() for _ in reviews]
    labels = np.arange(25_000) % 2
    np.savez(tmp_path / "a.npz", x_train=reviews, y_train=labels, x_test=reviews, y_test=labels)
    words = " ".join(f"word{rank}" for rank in rng.integers(1, 20_000, 200))
    rows = preview.SMALL_BYTES // (len(words) + 4) // 2
    (tmp_path / "a.csv").write_text("text,label\n" + f"{words},0\n{words},1\n" * rows)
    assert (tmp_path / "a.csv").stat().st_size <= preview.SMALL_BYTES
    for name in ("a.npz", "a.csv"):
        started = time.process_time()
        check_contents(str(tmp_path / name), TableConfig())
        assert time.process_time() - started < 1
