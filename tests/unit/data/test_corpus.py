from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imdbtune.data.corpus import (
    START,
    Corpus,
    NewCorpus,
    Split,
    make_split,
    read_corpus,
    write_corpus,
)
from imdbtune.errors import UserError

TRAIN = make_split([[START, 4, 5], np.array([START]), [START, 9, 9, 9]], [1, 0, 1])
TEST = make_split([[START, 7], [START, 8, 6]], [0, 1])
WORDS = {"film": 1, "schön": 2}


def write(folder: Path, train: Split = TRAIN, words: dict[str, int] = WORDS) -> Corpus:
    return write_corpus(folder, NewCorpus("tiny", "A tiny corpus", train, TEST, words))


def test_a_split_gives_its_reviews_lengths_and_head() -> None:
    assert [review.tolist() for review in TRAIN] == [[1, 4, 5], [1], [1, 9, 9, 9]]
    assert TRAIN[-1].tolist() == [1, 9, 9, 9]
    assert TRAIN.lengths.tolist() == [3, 1, 4]
    assert (TRAIN.tokens.dtype, TRAIN.offsets.dtype, TRAIN.labels.dtype) == ("i4", "i8", "i1")
    with pytest.raises(IndexError):
        TRAIN[3]


def test_head_is_a_view_of_the_first_reviews() -> None:
    head = TRAIN.head(2)
    assert [review.tolist() for review in head] == [[1, 4, 5], [1]]
    assert head.labels.tolist() == [1, 0]
    assert np.shares_memory(head.tokens, TRAIN.tokens)
    assert len(TRAIN.head(99)) == 3


def test_a_part_is_a_split_of_its_own() -> None:
    for first, last in ((0, 1), (1, 3), (1, 99), (2, 2)):
        part = TRAIN.part(first, last)
        assert [r.tolist() for r in part] == [r.tolist() for r in TRAIN][first:last]
        assert part.labels.tolist() == TRAIN.labels[first:last].tolist()
        assert (part.offsets[0], part.offsets[-1]) == (0, len(part.tokens))
        assert np.shares_memory(part.tokens, TRAIN.tokens) == bool(len(part))


def test_a_split_needs_a_label_for_each_review() -> None:
    with pytest.raises(ValueError, match="2 reviews but 1 labels"):
        make_split([[1], [1]], [0])


def test_what_was_written_is_read_back_as_read_only_maps(tmp_path: Path) -> None:
    written, opened = write(tmp_path / "c"), read_corpus(tmp_path / "c")
    for corpus in (written, opened):
        assert (corpus.name, corpus.title, corpus.folder) == (
            "tiny",
            "A tiny corpus",
            tmp_path / "c",
        )
        assert [review.tolist() for review in corpus.train] == [r.tolist() for r in TRAIN]
        assert corpus.test.labels.tolist() == [0, 1]
        assert corpus.word_index() == WORDS
        assert not corpus.train.tokens.flags.writeable
    assert written.digest == opened.digest
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_the_digest_follows_the_contents_and_nothing_else(tmp_path: Path) -> None:
    digest = write(tmp_path / "a").digest
    assert digest == write(tmp_path / "b").digest
    flipped = Split(TRAIN.tokens, TRAIN.offsets, 1 - TRAIN.labels)
    moved = Split(TRAIN.tokens, np.array([0, 2, 4, 8]), TRAIN.labels)
    others = [
        write(tmp_path / "d", flipped),
        write(tmp_path / "e", moved),
        write(tmp_path / "f", words={"film": 1}),
    ]
    assert len({digest, *(corpus.digest for corpus in others)}) == 4


def test_a_folder_that_holds_the_same_corpus_is_opened(tmp_path: Path) -> None:
    first = write(tmp_path / "c")
    assert write(tmp_path / "c").digest == first.digest


def test_a_folder_that_holds_another_corpus_is_kept(tmp_path: Path) -> None:
    first = write(tmp_path / "c")
    with pytest.raises(UserError, match="already holds another corpus"):
        write(tmp_path / "c", TRAIN.head(1))
    assert read_corpus(tmp_path / "c").digest == first.digest


def test_writers_at_once_leave_one_whole_corpus(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda _: write(tmp_path / "c").digest, range(8)))
    assert set(digests) == {read_corpus(tmp_path / "c").digest}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write(tmp_path / "c", words={"film": object()})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/c cannot be written .*IMDBTUNE_CACHE"):
        write(tmp_path / "file" / "c")


FILES = sorted(
    f"{half}_{field}.npy" for half in ("train", "test") for field in ("tokens", "offsets", "labels")
)


@pytest.mark.parametrize("name", [*FILES, "meta.json", "word_index.json"])
def test_a_missing_file_is_damage(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "c").folder
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{folder} is damaged .*{name}.*delete that folder"):
        read_corpus(folder)


@pytest.mark.parametrize("name", [*FILES, "meta.json"])
@pytest.mark.parametrize("keep", [0, 40, -1])
def test_a_truncated_file_is_damage(tmp_path: Path, name: str, keep: int) -> None:
    path = write(tmp_path / "c").folder / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is damaged"):
        read_corpus(path.parent)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train_tokens.npy", TRAIN.tokens[:-1]),
        ("train_tokens.npy", TRAIN.tokens.astype(np.int64)),
        ("train_labels.npy", TRAIN.labels[:-1]),
        ("train_labels.npy", TRAIN.labels[:, None]),
        ("train_offsets.npy", TRAIN.offsets[1:]),
        ("train_offsets.npy", TRAIN.offsets[:0]),
        ("train_offsets.npy", np.array([0, 4, 3, 8])),
        ("train_tokens.npy", np.array([[1, 2], [3]], object)),
    ],
)
def test_arrays_that_do_not_fit_are_damage(tmp_path: Path, name: str, array: np.ndarray) -> None:
    folder = write(tmp_path / "c").folder
    np.save(folder / name, array)
    with pytest.raises(UserError, match="is damaged"):
        read_corpus(folder)


@pytest.mark.parametrize("meta", [[], {}, {"format": 1}, {"format": 99}])
def test_a_wrong_meta_file_is_damage(tmp_path: Path, meta: object) -> None:
    folder = write(tmp_path / "c").folder
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="is damaged"):
        read_corpus(folder)
