"""Labels that look alike are two labels, and the user hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdbtune.config.schema import TableConfig
from imdbtune.data.labels import label_notes
from imdbtune.data.sources import open_corpus

LATIN, CYRILLIC = "pos", "p\u043es"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((LATIN, CYRILLIC), r"'pos' and 'p\u043es' mix Cyrillic and Latin letters"),
        (("c", "\u0441"), "mix Cyrillic and Latin"),
        (("neg", CYRILLIC), "mix Cyrillic and Latin"),
        (("\u03bd", "v"), "mix Greek and Latin"),
        (("Pos", "pos"), "differ only in case"),
        (("\uff50\uff4f\uff53", "pos"), "differ only in case or in forms"),
        (("caf\u00e9", "cafe\u0301"), "differ only in case or in forms"),
    ],
)
def test_labels_that_look_alike_get_a_note(names: tuple[str, str], words: str) -> None:
    (note,) = label_notes(names)
    assert words in note
    assert note.isascii()


@pytest.mark.parametrize(
    "names",
    [
        *(("neg", "pos"), ("0", "1"), ("+", "-"), ("1 star", "5 stars"), ("a\U0001f600", "b")),
        ("\u0445\u043e\u0440\u043e\u0448\u043e", "\u043f\u043b\u043e\u0445\u043e"),
        ("\u30dd\u30b8\u30c6\u30a3\u30d6", "\u60aa\u3044"),  # katakana; kanji with hiragana
    ],
)
def test_usual_labels_get_none(names: tuple[str, str]) -> None:
    assert list(label_notes(names)) == []


def test_only_the_labels_that_look_alike_are_named() -> None:
    (note,) = label_notes(("Pos", "neg", "pos"))
    assert note.startswith("the labels 'Pos' and 'pos' differ only in case")
    assert "two labels" in note


def test_numbers_get_the_advice_to_divide_them() -> None:
    (note,) = label_notes(("1", "2", "3", "4", "5"))
    assert "5 labels without an order" in note
    assert "--label-at '>=4'" in note


def test_the_note_is_shown_and_stays_with_the_corpus(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    rows = [f"film {i},{(LATIN, CYRILLIC)[i % 2]}" for i in range(40)]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    for _ in range(2):
        notices: list[str] = []
        open_corpus(str(path), tmp_path / "cache", notices.append, config=TableConfig())
        assert any("Cyrillic and Latin" in notice for notice in notices)
