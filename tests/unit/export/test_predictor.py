"""Predicting any text: a NumPy stand-in for the network, so order and batching are exact."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imdbtune.data.text import Tokenizer
from imdbtune.errors import UserError
from imdbtune.export.folder import FORMAT, read_export
from imdbtune.export.predictor import CHUNK, Prediction, Predictor

MAXLEN = 12
VOCABULARY = 50
WORD_INDEX = {f"w{rank}": rank for rank in range(1, 100)} | {"good": 100, "don't": 101}

ODD_TEXTS = [
    "",
    " \t\n",
    "w1",
    "w9 w8 w7",
    "W9, w8... w7!",
    "w60",
    "unheard of",
    "w1 " * 40,
    "w1 " * 300_000,
    "\0w5\0",
    "🎬🍿 w5 👍",
    "великолепный фильм",
    "映画はとても良い",
    "\ud800 w5",
    "w5\u200b w6\u00a0w7",
    "<br />w4<br />",
    "don't",
    "%s {0} $x \\",
]

Ids = npt.NDArray[np.int32]


class Network:
    """Depends on every id and its distance from the end; records the shapes of its inputs."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, ids: Ids) -> npt.NDArray[np.float32]:
        self.shapes.append(ids.shape)
        assert ids.dtype == np.int32
        assert ids.min() >= 0
        assert ids.max() < VOCABULARY
        distances = np.arange(ids.shape[1], 0, -1)
        return np.float32([[(row * distances**2).sum() % 997 / 997] for row in ids])


def make(padded: bool = False) -> tuple[Predictor, Network]:
    network = Network()
    return Predictor(network, Tokenizer(WORD_INDEX), VOCABULARY, MAXLEN, padded), network


def random_texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [
        " ".join(f"w{i}" for i in rng.integers(1, 110, rng.integers(0, 30))) for _ in range(count)
    ]


def test_predictions_do_not_depend_on_other_texts() -> None:
    predictor, _ = make()
    together = list(predictor.probabilities(ODD_TEXTS, batch_size=4))
    alone = [next(predictor.probabilities([text])) for text in ODD_TEXTS]
    assert together == alone
    assert len(set(together)) > 5


@pytest.mark.parametrize("batch_size", [1, 7, 256, 5000])
@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_results_come_in_the_order_of_the_texts(count: int, batch_size: int) -> None:
    predictor, network = make()
    texts = random_texts(count)
    alone = [float(predictor.run(one_row(text))[0, 0]) for text in texts]
    network.shapes.clear()
    assert list(predictor.probabilities(texts, batch_size)) == alone
    assert all(rows <= batch_size and 1 <= length <= MAXLEN for rows, length in network.shapes)


def one_row(text: str) -> Ids:
    return Tokenizer(WORD_INDEX).encode(text, VOCABULARY)[None, -MAXLEN:]


def test_the_last_tokens_are_kept() -> None:
    predictor, _ = make()
    ending = " ".join(f"w{i}" for i in range(1, MAXLEN + 1))
    whole, cut = predictor.probabilities([f"w30 w31 {ending}", f"w40 {ending}"])
    assert whole == cut
    assert whole != next(predictor.probabilities([f"{ending} w30"]))


def test_short_texts_are_not_padded_to_the_longest_of_all() -> None:
    predictor, network = make()
    list(predictor.probabilities(["w1"] * 10 + ["w1 " * 50] * 10, batch_size=10))
    assert network.shapes == [(10, 2), (10, MAXLEN)]


def test_a_model_without_a_mask_always_reads_maxlen_ids() -> None:
    predictor, network = make(padded=True)
    assert len(list(predictor.probabilities(ODD_TEXTS, batch_size=5))) == len(ODD_TEXTS)
    assert {length for _, length in network.shapes} == {MAXLEN}


def test_texts_are_read_lazily() -> None:
    predictor, _ = make()
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count(1):  # noqa: B007
            yield "w1 w2"

    assert len(list(itertools.islice(predictor.probabilities(endless()), 10))) == 10
    assert read == 2 * CHUNK  # the second chunk is read while the model runs on the first
    assert len(list(itertools.islice(predictor.predictions(endless()), CHUNK + 1))) == CHUNK + 1
    assert read == 3 * CHUNK


def test_predictions_carry_their_text_and_label() -> None:
    predictor = Predictor(
        lambda ids: np.where(ids[:, -1:] == 4, np.float32(0.5), np.float32(0.25)),
        Tokenizer(WORD_INDEX),
        VOCABULARY,
        MAXLEN,
        padded=False,
    )
    assert list(predictor.predictions(iter(["w1", "", "w1 w2"]))) == [
        Prediction("w1", 0.5, "positive"),
        Prediction("", 0.25, "negative"),
        Prediction("w1 w2", 0.25, "negative"),
    ]


def test_a_broken_source_of_texts_breaks_the_prediction() -> None:
    def texts() -> Iterator[str]:
        yield "w1"
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(make()[0].predictions(texts()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export without a model: enough to be read."""
    (tmp_path / "vocabulary.json").write_text('{"a": 1}')
    change(tmp_path)
    return tmp_path


def change(folder: Path, **changed: Any) -> None:
    document = {
        "format": FORMAT,
        "format_version": 1,
        "formats": {"keras": {}},
        "vocabulary": 50,
        "maxlen": 12,
        "batching": "buckets",
    }
    (folder / "metadata.json").write_text(json.dumps(document | changed))


def test_an_undamaged_folder_can_be_read(folder: Path) -> None:
    assert read_export(folder).word_index == {"a": 1}


@pytest.mark.parametrize("name", ["nowhere", "metadata.json", "a\0b", "x" * 300, "\ud800"])
def test_no_folder(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"is no export of imdbtune .*; give a folder") as raised:
        Predictor.load(folder / name)
    str(raised.value).encode()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}'])
def test_metadata_of_something_else(folder: Path, content: bytes) -> None:
    (folder / "metadata.json").write_bytes(content)
    with pytest.raises(UserError, match="is no export of imdbtune"):
        Predictor.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocabulary", None),
        ("vocabulary", "many"),
        ("vocabulary", 10**12),
        ("maxlen", 0),
        ("maxlen", -5),
        ("maxlen", [500]),
        ("maxlen", 1e400),
        ("batching", None),
        ("batching", ["buckets"]),
        ("batching", "bucket"),
    ],
)
def test_metadata_out_of_bounds(folder: Path, key: str, value: object) -> None:
    change(folder, **{key: value})
    with pytest.raises(UserError, match=f"is damaged: {key} .* Export the model again"):
        Predictor.load(folder)


@pytest.mark.parametrize("key", ["parameters", "members"])
@pytest.mark.parametrize("value", [None, 3, "gru", ["gru"], [[]], {"units": "many"}, {"cell": 3}])
def test_invalid_hyperparameters(folder: Path, key: str, value: object) -> None:
    written = [value] if key == "members" and isinstance(value, dict) else value
    change(folder, formats={"numpy": {}}, **{key: written})
    np.savez(folder / "model.npz", embedding=np.zeros((50, 2)))
    with pytest.raises(UserError, match=rf"is damaged: ({key}|units|hyper).* Export the"):
        Predictor.load(folder)


def test_arrays_that_are_missing_are_named(folder: Path) -> None:
    change(folder, formats={"numpy": {}}, parameters={"rnn": "gru"})
    np.savez(folder / "model.npz", output=np.zeros((50, 2)))
    with pytest.raises(UserError, match=r"model\.npz cannot be used \('embedding' is missing\)"):
        Predictor.load(folder)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_version(folder: Path, version: object) -> None:
    change(folder, format_version=version)
    with pytest.raises(UserError, match="export version"):
        Predictor.load(folder)


def test_a_format_that_the_folder_lacks(folder: Path) -> None:
    with pytest.raises(UserError, match=r"'onnx' is not known; allowed: keras"):
        Predictor.load(folder, "onnx")


@pytest.mark.parametrize("formats", [None, [], {}, "keras", {"caffe": {}}])
def test_no_format_that_is_known(folder: Path, formats: object) -> None:
    change(folder, formats=formats)
    with pytest.raises(UserError, match=r"is damaged: .*format.* Export the model again"):
        Predictor.load(folder)


@pytest.mark.parametrize(
    "words", [None, "", "{", "[]", '{"a": 0}', '{"a": "1"}', '{"a": true}', '{"a": 1.5}']
)
def test_a_damaged_vocabulary(folder: Path, words: str | None) -> None:
    (folder / "vocabulary.json").unlink()
    if words is not None:
        (folder / "vocabulary.json").write_text(words)
    with pytest.raises(UserError, match=r"not a word index.* Export the model again"):
        Predictor.load(folder)
