"""Reviews of one's own: tables and folders become the corpus that their texts say."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune.config.schema import TableConfig
from imdbtune.data import tables, text_lines
from imdbtune.data.columns import read_texts
from imdbtune.data.corpus import Corpus, Split
from imdbtune.data.own import check_own, folder_corpus, table_corpus
from imdbtune.data.review_buffer import Review, ReviewBuffer
from imdbtune.data.sources import describe, open_corpus, place_of
from imdbtune.data.text import Tokenizer, build_word_index, decode
from imdbtune.errors import UserError

TEXTS = ["A good film, really", "bad", "", "Good GOOD (good) film", "so bad it's good", "bad film"]
LABELS = ["good", "bad", "bad", "good", "good", "bad"]
ROWS = list(zip(TEXTS, LABELS, strict=True)) * 2
Write = Callable[..., Path]


def as_csv(rows: list[tuple[str, ...]], delimiter: str = ",", end: str = "\n") -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
    return file.getvalue().encode()


def as_parquet(columns: dict[str, list[Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def as_jsonl(records: list[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


NAMED: list[tuple[str, ...]] = [("text", "label"), *ROWS]
RECORDS = [{"text": text, "label": label} for text, label in ROWS]
SAME = {
    "comma.csv": as_csv(NAMED),
    "semicolon.csv": as_csv(NAMED, ";"),
    "crlf.csv": as_csv(NAMED, end="\r\n"),
    "marked.csv": codecs.BOM_UTF8 + as_csv(NAMED),
    "spaced.CSV": as_csv([(" text ", "label"), *ROWS]).replace(b"\n", b"\n\n"),
    "tabs.tsv": as_csv(NAMED, "\t"),
    "lines.jsonl": as_jsonl(RECORDS).replace(b"\n", b"\n \n"),
    "stored.parquet": as_parquet({"text": [t for t, _ in ROWS], "label": [v for _, v in ROWS]}),
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file to be read, and gives its path."""

    def written(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def read(path: Path, **settings: Any) -> Corpus:
    config = TableConfig(**settings)
    return (folder_corpus if path.is_dir() else table_corpus)(path, path.parent / "cache", config)


def texts(corpus: Corpus, split: Split) -> list[tuple[str, str]]:
    words = corpus.word_index()
    labels = [corpus.labels[label] for label in split.labels]
    return [(decode(split[i], words), labels[i]) for i in range(len(split))]


@pytest.mark.parametrize("name", SAME)
def test_all_formats_give_the_same_reviews(name: str, write: Write) -> None:
    first = read(write("first.csv", as_csv(NAMED)))
    corpus = read(write(name, SAME[name]))
    assert corpus.digest == first.digest
    assert (corpus.name, corpus.labels) == (name, ("bad", "good"))
    assert (len(corpus.train), len(corpus.test)) == (10, 2)
    assert corpus.title == f"{name}: 10 reviews to train on, 2 to test"


def test_words_are_ranked_in_the_training_part_and_encoded(
    write: Write,
) -> None:
    rows = [(t, v, "train") for t, v in ROWS] + [("new bad words", "bad", "test")]
    rows.append(("film good", "good", "test"))
    corpus = read(write("own.csv", as_csv([("text", "label", "split"), *rows])))
    words = corpus.word_index()
    assert words == build_word_index(TEXTS * 2)
    assert list(words) == ["good", "bad", "film", "a", "it's", "really", "so"]
    tokenizer = Tokenizer(words)
    expected = sorted((tokenizer.encode(t, 99).tolist(), v) for t, v in ROWS)
    named = [corpus.labels[label] for label in corpus.train.labels]
    stored = [(corpus.train[i].tolist(), named[i]) for i in range(len(corpus.train))]
    assert sorted(stored) == expected
    assert sorted(texts(corpus, corpus.test)) == [("bad", "bad"), ("film good", "good")]


def test_words_are_counted_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = ReviewBuffer(Review(text, label, 0) for text, label in ROWS)
    chosen = np.array([0, 3, 8, 11])
    expected = build_word_index(ROWS[row][0] for row in chosen)
    for size in (1, 3, 100):
        monkeypatch.setattr("imdbtune.data.review_buffer._CHUNK", size)
        assert buffer.word_index(chosen) == expected


def test_line_breaks_of_all_systems_end_words(write: Write) -> None:
    rows = [("one\r\ntwo\rthree\nfour", "a"), ("one", "b")] * 2
    corpus = read(write("own.csv", as_csv([("text", "label"), *rows])))
    assert set(corpus.word_index()) == {"one", "two", "three", "four"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0, 1], ("0", "1")),
        ([False, True], ("false", "true")),
        (["neg", "pos"], ("neg", "pos")),
        ([0.0, 1.0], ("0", "1")),
    ],
)
def test_labels_of_any_type_become_names(
    values: list[Any], names: tuple[str, str], write: Write
) -> None:
    records = [{"review": "w x", "sentiment": value, "id": 3} for value in values * 3]
    columns = {name: [record[name] for record in records] for name in records[0]}
    for path in (
        write("own.jsonl", as_jsonl(records)),
        write("own.parquet", as_parquet(columns)),
    ):
        corpus = read(path)
        assert corpus.labels == names
        assert describe(corpus)["labels"] == list(names)
        assert np.bincount(corpus.train.labels).tolist() == [2, 2]


def test_the_positive_label_can_be_named(write: Write) -> None:
    path = write("own.csv", as_csv(NAMED))
    plain, turned = read(path), read(path, positive="bad")
    assert turned.labels == plain.labels[::-1]
    assert {("bad", "bad")} == {named for named in texts(turned, turned.train) if named[0] == "bad"}
    assert turned.digest != plain.digest


@pytest.mark.parametrize(
    ("head", "settings", "found"),
    [
        (("Review", "Sentiment"), {}, ("Review", "Sentiment", "none")),
        (("what people said", "verdict"), {}, ("what people said", "verdict", "none")),
        (("text", "verdict"), {}, ("text", "verdict", "none")),
        (("what people said", "label"), {}, ("what people said", "label", "none")),
        (("label", "text"), {"text_column": "label", "label_column": "TEXT"}, None),
    ],
)
def test_columns_are_found_by_name_or_contents(
    head: tuple[str, str],
    settings: dict[str, str],
    found: tuple[str, str, str] | None,
    write: Write,
) -> None:
    rows = [(f"a long text with number {i} in it", "yes" if i % 2 else "no") for i in range(9)]
    reading = check_own(write("own.csv", as_csv([head, *rows])), TableConfig(**settings))
    columns = tuple(reading[f"{kind}_column"] for kind in ("text", "label", "split"))
    assert columns == (found or ("label", "text", "none"))


REVIEWS = [f"a long review of a film with number {number}" for number in range(12)]
STARS = [1, 5, 2, 4, 3, 5, 1, 4, 2, 5, 3, 4]
DATES = ["2024-01-31", "2024-02-01"] * 6


@pytest.mark.parametrize(
    ("columns", "settings", "found"),
    [
        ({"text": REVIEWS, "stars": STARS}, {"label_at": ">=4"}, ("text", "stars")),
        (
            {"id": range(12), "review": REVIEWS, "rating": STARS, "date": DATES},
            {"label_at": ">=4"},
            ("review", "rating"),
        ),
        (
            {"reviewId": range(12), "reviewBody": REVIEWS, "starRating": STARS, "on": DATES},
            {"label_at": ">3"},
            ("reviewBody", "starRating"),
        ),
        ({"when": DATES, "opinion": REVIEWS, "mood": "ab" * 6}, {}, ("opinion", "mood")),
        ({"user_id": [7, 8] * 6, "opinion": REVIEWS, "mood": "ab" * 6}, {}, ("opinion", "mood")),
        ({"on": [f"{d}T10:00" for d in DATES], "x": REVIEWS, "z": "ab" * 6}, {}, ("x", "z")),
        ({"comment": REVIEWS, "stars": STARS, "label": "ab" * 6}, {}, ("comment", "label")),
        ({"review": range(12), "review_text": REVIEWS, "y": "ab" * 6}, {}, ("review_text", "y")),
        ({"": range(12), "opinion": REVIEWS, "points": STARS}, {"label_at": "<3"}, None),
    ],
)
def test_dates_and_ids_are_neither_labels_nor_texts(
    columns: dict[str, Any],
    settings: dict[str, str],
    found: tuple[str, str] | None,
    write: Write,
) -> None:
    rows = [tuple(columns), *zip(*columns.values(), strict=True)]
    reading = check_own(write("own.csv", as_csv(rows)), TableConfig(**settings))
    assert (reading["text_column"], reading["label_column"]) == (found or ("opinion", "points"))


def test_dates_in_parquet_are_no_labels(write: Write) -> None:
    days = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)] * 6
    columns = {"a": days, "b": REVIEWS, "c": [True, False] * 6}
    reading = check_own(write("own.parquet", as_parquet(columns)), TableConfig())
    assert (reading["text_column"], reading["label_column"]) == ("b", "c")


@pytest.mark.parametrize(
    ("condition", "labels", "positive"),
    [
        (">=4", ("<4", ">=4"), [4, 5]),
        ("> 4.0", ("<=4", ">4"), [5]),
        ("<=2", (">2", "<=2"), [1, 2]),
        ("<1.5", (">=1.5", "<1.5"), [1]),
    ],
)
def test_numbers_are_divided_into_two_labels(
    condition: str, labels: tuple[str, str], positive: list[int], write: Write
) -> None:
    rows = [(f"w{stars}", str(stars)) for stars in STARS * 2]
    path = write("own.csv", as_csv([("text", "stars"), *rows]))
    corpus = read(path, label_at=condition)
    assert corpus.labels == labels
    assert corpus.reading["label_at"] == labels[1]
    found = {text for text, label in texts(corpus, corpus.train) if label == labels[1]}
    assert found == {f"w{stars}" for stars in positive}
    assert read(path, **corpus.reading).folder == corpus.folder
    turned = read(path, label_at=condition, positive=labels[0])
    assert turned.labels == labels[::-1]
    assert read(path, label_at=">=3").digest != corpus.digest


def test_a_column_says_what_is_for_testing_unless_it_is_to_be_ignored(write: Write) -> None:
    rows = [(f"w{i}", "ab"[i % 2], "TEST" if i < 4 else " train ") for i in range(20)]
    path = write("own.csv", as_csv([("text", "label", "Split"), *rows]))
    corpus = read(path)
    assert sorted(texts(corpus, corpus.test)) == [("", "a"), ("", "a"), ("", "b"), ("", "b")]
    assert len(read(path, split_column="none", test_share=0.5).test) == 10
    assert corpus.notes == ()


def test_rows_for_validation_are_noted(write: Write) -> None:
    parts = ["train"] * 12 + ["dev"] * 4 + ["test"] * 4
    rows = [(f"w{i} x", "ab"[i % 2], part) for i, part in enumerate(parts)]
    corpus = read(write("own.csv", as_csv([("text", "label", "part"), *rows])), split_column="part")
    (note,) = corpus.notes
    assert "the 4 rows for validation come last among the 16 for training" in note
    last = {text for text, _ in texts(corpus, corpus.train)[-4:]}
    assert last == {f"w{i} x" for i in range(12, 16)}


def test_texts_that_are_in_both_parts_are_counted_and_noted(write: Write) -> None:
    rows = [("Same, same!", "a", "train"), ("other", "b", "train"), ("", "a", "train")]
    rows += [("same same", "a", "test"), ("same", "b", "test"), ("", "b", "test")]
    path = write("own.csv", as_csv([("text", "label", "split"), *rows]))
    notes: list[str] = []
    for _ in range(2):
        open_corpus(str(path), path.parent / "cache", notes.append)
    assert notes[0].startswith("own.csv: 1 of 3 test reviews also occur among the training reviews")
    assert notes == [notes[0]] * 2


def test_a_table_is_converted_once_for_each_way_to_read_it(write: Write) -> None:
    path = write("own.csv", as_csv(NAMED))
    first = read(path)
    inode = first.folder.stat().st_ino
    assert read(path).folder.stat().st_ino == inode
    again = read(path, **first.reading)
    assert again.folder == first.folder
    others = [read(path, split_seed=1), read(path, test_share=0.5)]
    path.write_bytes(as_csv([*NAMED, ("more", "bad")]))
    assert len({first.digest, read(path).digest, *(other.digest for other in others)}) == 4


def make_folder(folder: Path, **reviews: list[str]) -> Path:
    """``train_pos=["text", ...]``, a file each."""
    for place, contents in reviews.items():
        into = folder / place.replace("_", "/")
        into.mkdir(parents=True)
        for number, text in enumerate(contents):
            (into / f"{number}_7.txt").write_text(text)
    return folder


def test_a_folder_like_that_of_the_imdb_reviews_is_read(tmp_path: Path) -> None:
    folder = make_folder(
        tmp_path / "aclImdb",
        train_pos=["good film", "good"],
        train_neg=["bad film", "bad"],
        train_unsup=["neither"],
        test_pos=["good"],
        test_neg=["awful film"],
    )
    (folder / "train" / "labeledBow.feat").write_text("9 0:9")
    corpus = open_corpus(f"{folder}/", tmp_path / "cache", lambda note: None)
    assert (corpus.name, corpus.labels) == ("aclImdb/", ("neg", "pos"))
    assert sorted(texts(corpus, corpus.test)) == [("film", "neg"), ("good", "pos")]
    assert corpus.word_index() == {"bad": 1, "film": 2, "good": 3}
    assert place_of(f"{folder}/", corpus) == str(folder)
    (folder / "test" / "neg" / "0_7.txt").write_text("bad film")
    assert read(folder).digest != corpus.digest


def test_a_folder_without_test_reviews_is_divided(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "own", train_good=["x"] * 5, train_bad=["y"] * 5)
    corpus = read(folder, test_share=0.4)
    assert sorted(texts(corpus, corpus.test)) == [("x", "good")] * 2 + [("y", "bad")] * 2
    assert (len(corpus.train), len(corpus.test), corpus.labels) == (6, 4, ("bad", "good"))


GOOD = "text,label\nfine,1\nawful,0\nfine,1\nawful,0\n"
WRONG: list[tuple[str, bytes | str, dict[str, Any], str]] = [
    ("a.csv", GOOD, {"text_column": "body"}, "column of .* 'body' is not known; allowed: text, la"),
    (
        "a.csv",
        GOOD,
        {"label_column": "text", "text_column": "text"},
        "in different columns, not in 'text', 'text'",
    ),
    ("a.csv", "x,z\nq,1\nr,2\ns,3\n", {}, "which column holds the labels; name it with --label"),
    (
        "a.csv",
        "x,y,label\nq,a,0\nr,b,1\n",
        {},
        "which column holds the texts; name it with --text-c",
    ),
    ("a.csv", "text,text,label\na,b,1\n", {}, "has 2 columns 'text'"),
    ("a.csv", "text,\x07,label\na,b,1\n", {}, "column '.x07', which is not a valid name"),
    ("a.csv", "fine,1\nawful,0\nbad,0\ngood,1\n", {}, "line 1: it holds '1' like other lines"),
    (
        "a.csv",
        GOOD + "poor,2\n",
        {},
        "a.csv has only one row with the label '2'; each label needs at least two, one for train",
    ),
    (
        "a.csv",
        GOOD + "poor,mixed\n",
        {},
        "a.csv has only one row with the label 'mixed'; each label needs at least two",
    ),
    (
        "a.csv",
        "when,a,b\n2024-01-01,q,1\n2024-01-02,r,2\n2024-01-01,s,3\n",
        {},
        r"Columns and their first values: 'when' .'2024-01-01', '2024-01-02'.; 'a' .'q', 'r', 's'.",
    ),
    ("a.csv", GOOD + "poor,x\n", {"label_at": ">=1"}, "line 6: .* holds 'x', not a number, as lab"),
    ("a.csv", GOOD + "poor,\n", {"label_at": ">=1"}, "line 6: column 'label' is empty"),
    ("a.csv", GOOD, {"label_at": ">5"}, "has only one label, '<=5'"),
    (
        "a.csv",
        GOOD,
        {"label_at": ">=1", "label_column": "text", "text_column": "label"},
        "column 'text' of .* has no numbers, which label_at needs",
    ),
    ("a.csv", "text,label\na,1\nb,1\n", {}, "has only one label, '1'"),
    ("a.csv", GOOD + "poor,\n", {}, "a.csv, line 6: column 'label' is empty"),
    ("a.csv", GOOD + "poor\n", {}, "line 6: 1 value .*, but the first line names 2 columns"),
    ("a.csv", GOOD + "so, so,1\n", {}, "line 6: 3 values .* in double quotes"),
    ("a.csv", GOOD + '"a\nb",1\n"c\nd,1\n', {}, "line 8: a quote opened in this row is"),
    ("a.csv", GOOD + '"a "b" c",1\n', {}, "line 6: .* expected after .*write a quote in it as"),
    ("a.csv", "", {}, "a.csv is empty"),
    ("a.csv", "text,label\n", {}, "no rows below the column names"),
    ("a.csv", "text,label\n,1\n!,0\n ,1\n,0\n", {}, "'text' of .* has no words in any row"),
    (
        "a.csv",
        GOOD.encode() + b"caf\xe9,1\n",
        {},
        r"line 6: byte 44 .* is 0xe9, which is not UTF-8",
    ),
    ("a.csv", GOOD.encode("utf-16"), {}, "line 1: byte 0 .*it is in UTF-16"),
    ("a.csv", GOOD + "a\0b,1\n", {}, "line 6: byte 42 of the file is zero"),
    ("a.csv", b"PK\3\4\x14\0\6\0\x08\0\0\0!\0", {}, "line 1: byte 5 of the file is zero"),
    ("a.csv", "text,label\na,1\nb,0\n", {}, "only one row with the label '0', '1'; each label"),
    (
        "a.csv",
        "text,label\n" + "".join(f"a film,{n % 101}\n" for n in range(300)),
        {},
        "column 'label' of .* has 101 labels, '0', .* and 96 more; 2 to 100 are allowed: divide "
        "these numbers with --label-at '>=51', choose another label column or leave rows out.",
    ),
    (
        "a.csv",
        "text,label\n" + "".join(f"film {n},{'xyz'[n % 3]}\n" for n in range(9)),
        {"positive": "y"},
        "the positive label 'y' needs two labels, and there are 3, 'x', 'y', 'z'; leave it out.",
    ),
    (
        "a.csv",
        "text,label,split\na,1,train\nb,0,test\nc,1,test\nd,0,test\n",
        {},
        "no row for training with label '0' .1 in all",
    ),
    (
        "a.csv",
        "text,label,split\na,1,train\nb,0,later\n",
        {},
        "line 3: column 'split' holds 'later'",
    ),
    ("a.csv", GOOD, {"positive": "2"}, "positive label '2' is not known; allowed: 0, 1"),
    ("a.tsv", GOOD, {}, "which column holds the labels|'text,label'"),
    (
        "a.jsonl",
        '{"text": "a", "label": 1}\n{"text": "b"}\n',
        {},
        "line 2: it has no 'label', only",
    ),
    ("a.jsonl", '{"text": "a"\n', {}, "line 1: it is not JSON .*; each line must be an object"),
    ("a.jsonl", "[" * 100_000, {}, "line 1: it is not JSON"),
    ("a.jsonl", '["a", 1]\n', {}, "line 1: it is .'a', 1., not an object such as"),
    ("a.jsonl", '{"text": 5, "label": 1}\n' * 2, {}, "line 1: column 'text' holds 5, not text"),
    (
        "a.jsonl",
        '{"text": "a", "label": 0.5}\n',
        {},
        "line 1: column 'label' holds 0.5, not a label",
    ),
    ("a.parquet", GOOD, {}, "is not Parquet"),
    (
        "a.parquet",
        as_parquet({"text": ["a"], "label": [None]}),
        {},
        "row 1: column 'label' is empty",
    ),
    ("a.parquet", as_parquet({"text": [b"a"], "label": [1]}), {}, "row 1: .* holds b'a', not text"),
    ("a.parquet", as_parquet({"text": [], "label": []}), {}, "no rows"),
]


@pytest.mark.parametrize(("name", "content", "settings", "says"), WRONG)
def test_errors_name_their_position(
    name: str, content: bytes | str, settings: dict[str, Any], says: str, write: Write
) -> None:
    path = write(name, content)
    with pytest.raises(UserError, match=says) as caught:
        read(path, **settings)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or "positive label" in says
    assert not list(path.parent.glob("cache/corpora/own-*[!k]"))


def test_label_101_far_down_is_reported_with_its_line(write: Write) -> None:
    more = [("poor", f"mixed {number}") for number in range(99)]
    path = write("own.csv", as_csv([("text", "label"), *ROWS * 100, *more]))
    says = "line 1300: column 'label' holds 'mixed 98', label 101 of this column; 2 to 100 are"
    with pytest.raises(UserError, match=says):
        read(path)


@pytest.mark.parametrize("names", [("sport", "art", "news"), ("10", "9", "1", "2")])
def test_several_labels_are_in_order(names: tuple[str, ...], write: Write) -> None:
    rows = [(f"film about {name}", name) for name in names for _ in range(20)]
    corpus = read(write("own.csv", as_csv([("text", "label"), *rows])))
    number = names[0].isdigit()
    assert corpus.labels == tuple(sorted(names, key=int if number else str))
    assert np.bincount(corpus.train.labels).tolist() == [16] * len(names)
    assert np.bincount(corpus.test.labels).tolist() == [4] * len(names)
    assert any("without an order" in note for note in corpus.notes) == number
    assert describe(corpus)["test"]["by_label"] == dict.fromkeys(corpus.labels, 4)


def test_a_column_of_several_labels_is_found_by_its_contents(write: Write) -> None:
    rows = [(f"film {n}", str(n), "abc"[n % 3]) for n in range(30)]
    corpus = read(
        write("own.csv", as_csv([("words", "number", "kind"), *rows])), text_column="words"
    )
    assert corpus.labels == ("a", "b", "c")


def test_a_note_names_labels_that_are_too_rare_to_validate(write: Write) -> None:
    names = ["a"] * 40 + ["b"] * 40 + ["c"] * 2
    corpus = read(write("own.csv", as_csv([("text", "label"), *((f"film {n}", n) for n in names)])))
    (note,) = [note for note in corpus.notes if note.startswith("no row for")]
    assert "has the label 'c'; add rows of it." in note


def test_a_line_without_an_end_is_not_read_to_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (tables, text_lines):
        monkeypatch.setattr(module, "MAX_LINE", 100)
    with pytest.raises(UserError, match="line 2: it is longer than 100 bytes"):
        read(write("own.csv", "text,label\n" + "x" * 5000))
    with pytest.raises(UserError, match=r"line 2: a quote .* is not closed within 100 characters"):
        read(write("own.csv", 'text,label\n"a' + "x y\n" * 500))


@pytest.mark.parametrize(
    ("reviews", "says"),
    [
        ({}, "no folder train; it must hold train/pos"),
        (
            {"train_pos": ["a"], "train_neg": ["b"], "train_odd": ["c"]},
            "own has only one row with the label 'neg', 'odd', 'pos'; each",
        ),
        ({"train_pos": ["a"]}, "has only one label, 'pos'"),
        ({"train_pos": [], "train_neg": []}, "has no reviews; it must hold"),
        (
            {"train_pos": ["a"], "train_neg": ["b", "d"], "test_pos": ["c"]},
            "no row for testing with label 'neg' .1 in all",
        ),
        ({"train_pos": ["a\0"], "train_neg": ["b"]}, "0_7.txt is not text"),
    ],
)
def test_folders_that_are_laid_out_otherwise_are_refused(
    reviews: dict[str, list[str]], says: str, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(UserError, match=says):
        read(make_folder(tmp_path / "own", **reviews))


def test_the_labels_of_a_folder_are_not_divided(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "own", train_1=["a"] * 9, train_5=["b"] * 9)
    for opened in (read, lambda path, label_at: check_own(path, TableConfig(label_at=label_at))):
        with pytest.raises(UserError, match=r"label_at applies to tables, and .* is a folder"):
            opened(folder, label_at=">=4")


def test_a_label_of_a_folder_is_a_name(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "own", train_pos=["a", "b"], train_neg=["c", "d"])
    (folder / "train" / "neg").rename(folder / "train" / "neg\x1b[31m")
    with pytest.raises(UserError, match=r"a folder 'neg\\x1b\[31m', which is not a valid label"):
        read(folder)


def test_a_file_of_a_folder_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "own", train_pos=["a", "b"], train_neg=["c", "d"])
    wrong = folder / "train" / "neg" / "1_7.txt"
    wrong.write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=f"{wrong} is not UTF-8: byte 3 is 0xe9"):
        read(folder)
    wrong.unlink()
    os.mkfifo(wrong)
    with pytest.raises(UserError, match=f"{wrong} cannot be read: it is a pipe, not a file"):
        read(folder)
    wrong.unlink()
    with wrong.open("wb") as file:
        file.truncate(2**40)  # a hole, which takes no room
    with pytest.raises(UserError, match=f"{wrong} is longer than"):
        read(folder)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.csv")
    with pytest.raises(UserError, match="it is a pipe, not a file"):
        read(tmp_path / "own.csv")


def bomb(text: str, rows: int) -> bytes:
    """A Parquet file in which a text stands once, and counts for many rows."""
    import pyarrow
    import pyarrow.parquet

    def repeated(values: list[str]) -> Any:
        places = pyarrow.array([i % len(values) for i in range(rows)], pyarrow.int32())
        return pyarrow.DictionaryArray.from_arrays(places, pyarrow.array(values))

    file = io.BytesIO()
    table = pyarrow.table({"text": repeated([text]), "label": repeated(["bad", "good"])})
    pyarrow.parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "rows", "says"),
    [
        ("good " * 2**15, 20_000, "more than 200,000 words"),
        ("g" * (2**24 + 1), 4_000, "row 1: a value has more than"),
        ("g" * (2**26 + 1), 4_000, "column 'text' would unpack to"),
    ],
)
def test_a_small_file_does_not_fill_the_memory(
    text: str, rows: int, says: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imdbtune.data.review_buffer._MAX_SIZE", 200_000)
    path = write("bomb.parquet", bomb(text, rows))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(UserError, match=says):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**29
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "content", "column", "found"),
    [
        ("a.csv", 'id,review\n1,"so, so"\n2,\n', "", ["so, so", ""]),
        ("a.csv", "id,review\n1,x\n2,y\n", "ID", ["1", "2"]),
        ("a.csv", "only\nx\ny\n", "", ["x", "y"]),
        ("a.tsv", "id\twords\n1\ta long text, really\n", "", ["a long text, really"]),
        ("a.jsonl", '{"text": null}\n{"text": 5}\n', "", ["", "5"]),
        ("a.txt", "\ufeffone\r\n\ncaf\xe9", "", ["one", "", "caf\xe9"]),
    ],
)
def test_texts_to_predict_are_taken_out_of_files(
    name: str, content: bytes | str, column: str, found: list[str], write: Write
) -> None:
    assert list(read_texts(write(name, content), column)) == found


@pytest.mark.parametrize("value", [["good"], {"film": "good"}])
def test_a_parquet_column_of_lists_or_structs_can_be_read(value: object, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [value] * 3, "label": [0, 1, 0]}), tmp_path / "odd.parquet")
    table = tables.open_table(tmp_path / "odd.parquet")
    assert [row for _, row in table.rows(["text"])] == [(value,)] * 3
