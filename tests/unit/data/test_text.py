from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from imdbtune.data.corpus import INDEX_FROM, OOV, PAD, START
from imdbtune.data.text import SEPARATORS, Tokenizer, build_word_index, decode, split_words

WORDS = {"the": 1, "film": 2, "isn't": 3, "bad": 4}
ALL = 1_000  # a vocabulary that cuts nothing


@pytest.fixture(scope="module")
def imdb(shared_data: Path) -> Tokenizer:
    words = (shared_data / "imdb_word_index.json").read_text(encoding="utf-8")
    return Tokenizer(json.loads(words))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Film ISN'T bad", ["the", "film", "isn't", "bad"]),
        ("bad,bad.<br /><br />bad", ["bad", "bad", "br", "br", "bad"]),
        ("tab\tline\nend  two spaces ", ["tab", "line", "end", "two", "spaces"]),
        ("ÉTÉ İ Ünique", ["ÉtÉ", "İ", "Ünique"]),  # only A-Z have a lower case
        ("one\xa0word\r\x0b", ["one\xa0word\r\x0b"]),  # no other white space is a separator
        ("", []),
        (SEPARATORS, []),
    ],
)
def test_words_are_cut_at_the_separators_only(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_the_separators_are_those_of_keras() -> None:
    assert set(SEPARATORS) == set('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n')


def test_ids_are_ranks_behind_the_reserved_ids_and_unknown_words_are_dropped() -> None:
    ids = Tokenizer(WORDS).encode("The film, frankly, isn't bad!", ALL)
    assert ids.dtype == np.int32
    assert ids.tolist() == [START, 1 + INDEX_FROM, 2 + INDEX_FROM, 3 + INDEX_FROM, 4 + INDEX_FROM]


def test_words_beyond_the_vocabulary_become_the_unknown_word() -> None:
    ids = Tokenizer(WORDS).encode("the film isn't bad", 2 + INDEX_FROM)
    assert ids.tolist() == [START, 1 + INDEX_FROM, OOV, OOV, OOV]


@pytest.mark.parametrize(
    "text", ["", " \t\n", "🎬🍿", "\0\0", "\ud800 \udfff", "?!", "שלום", "\x85\u2028"]
)
def test_text_without_a_known_word_is_the_start_alone(text: str) -> None:
    assert Tokenizer(WORDS).encode(text, ALL).tolist() == [START]


def test_strange_characters_leave_their_neighbors_alone() -> None:
    ids = Tokenizer(WORDS).encode("the 🎬 film \ud800 \0 bad", ALL)
    assert decode(ids, WORDS) == "the film bad"


def test_a_megabyte_is_encoded_whole() -> None:
    assert len(Tokenizer(WORDS).encode("bad film. " * 100_000, ALL)) == 200_001


def test_words_are_ranked_by_frequency_then_alphabet() -> None:
    texts = ["Pear fig fig", "apple, FIG; pear!", "kiwi"]
    index = build_word_index(texts)
    assert index == {"fig": 1, "pear": 2, "apple": 3, "kiwi": 4}
    assert build_word_index(reversed(texts)) == index
    assert build_word_index([]) == {}


def test_decoding_leaves_out_padding_and_marks_what_is_no_word() -> None:
    ids = [PAD, PAD, START, 1 + INDEX_FROM, OOV, 3, 999]
    assert decode(ids, WORDS) == "the ? ? ?"
    assert decode([], WORDS) == ""


def test_the_imdb_word_index_gives_the_ids_of_keras(imdb: Tokenizer) -> None:
    text = "This film was <b>just</b> brilliant!"
    assert imdb.encode("this film was just brilliant", 10_000).tolist() == [1, 14, 22, 16, 43, 530]
    assert decode(imdb.encode(text, 10_000), imdb.word_index) == "this film was b just b brilliant"
