"""Whatever happens to the files of compiled code, trainings go on with the same results."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tensorflow as tf

from imdbtune.training import xla_cache
from imdbtune.training.xla_cache import cache_environment, load_entries, save_entries
from tests.forked import OtherServer, Surroundings, environment_of, other_server, run_code
from tests.support import no_room_beyond, tiny_corpus

TRAINING = """
import sys
from pathlib import Path
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.imdb import npz_corpus
from imdbtune.training.spec import TrainingSettings, TrialSpec
from imdbtune.training.trainer import train_trial
from tests.support import no_room_beyond

folder = Path(sys.argv[1])
corpus = npz_corpus(folder / "imdb.npz", folder)
params = TrialParams(rnn="simple_rnn", units=4, maxlen=4, vocabulary=20, embedding=4, batch_size=4)
spec = TrialSpec(params, corpus.folder, folder, TrainingSettings(epochs=2, compile="on"))
with no_room_beyond(int(sys.argv[2])):
    result = train_trial(spec)
assert result.compiled
print([(epoch["loss"], epoch["val_loss"]) for epoch in result.history])
"""
UNLIMITED = 2**40
PRELOADED = ("imdbtune.training.trainer", "imdbtune.data.imdb", "tests.support")
# What TensorFlow looks up when it is imported: it tells where it has found compiled code.
TELLING = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_executable_persistor=1"}


def train(server: OtherServer, folder: Path, room: int = UNLIMITED) -> tuple[str, int]:
    """Train in a process of its own; return the losses, and how often XLA found compiled code."""
    output, errors = folder / f"{uuid.uuid4().hex}.output", folder / f"{uuid.uuid4().hex}.errors"
    known = environment_of(**cache_environment(folder), CUDA_VISIBLE_DEVICES="-1")
    around = Surroundings(folder, known, output, errors)
    status = server.run(run_code, around, TRAINING, str(folder), str(room))
    told = errors.read_text("utf-8")
    assert status == 0, told[-2000:]
    return output.read_text("utf-8"), told.count("Loading cached entry for")


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("xla/*/*"))


DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: bytes(255 - byte for byte in content),
    lambda content: bytes(len(content)),
)


def test_full_and_damaged_caches_change_nothing_but_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    tiny_corpus(tmp_path)
    with other_server(PRELOADED, TELLING) as server:
        trained = partial(train, server, tmp_path)
        losses, _ = trained(room=40_000)  # compiled code needs more, everything else less
        assert entries(tmp_path) == []
        assert trained() == (losses, 0)
        kept = entries(tmp_path)
        assert len(kept) > 1
        assert min(path.stat().st_size for path in kept) > 40_000
        kept[0].write_bytes(bytes(255 - byte for byte in kept[0].read_bytes()))
        (kept[0].parent / "a.pb12.tmp").write_bytes(b"what a killed process has left")
        assert trained() == (losses, len(kept) - 1)
        assert entries(tmp_path) == kept


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give each test a folder in memory of its own."""
    folder = f"ram://{uuid.uuid4().hex}"
    monkeypatch.setattr(xla_cache, "MEMORY", folder)
    return folder


def write_in_memory(memory: str, **contents: bytes) -> set[str]:
    tf.io.gfile.makedirs(memory)
    for name, content in contents.items():
        with tf.io.gfile.GFile(f"{memory}/{name}.pb", "wb") as file:
            file.write(content)
    return {f"{name}.pb" for name in contents}


def in_memory(memory: str) -> dict[str, bytes]:
    names = tf.io.gfile.listdir(memory) if tf.io.gfile.isdir(memory) else []
    return {name: tf.io.gfile.GFile(f"{memory}/{name}", "rb").read() for name in names}


def signed(code: bytes) -> bytes:
    return hashlib.sha256(code).digest() + code


def test_what_was_saved_is_loaded(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {"a": os.urandom(700_000), "b": b"\0\r\n"}
    save_entries(tmp_path, write_in_memory(memory, **codes))
    monkeypatch.setattr(xla_cache, "MEMORY", f"{memory}-of-another-process")
    load_entries(tmp_path)
    found = in_memory(f"{memory}-of-another-process")
    assert found == {f"{name}.pb": code for name, code in codes.items()}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_deleted(
    damage: Callable[[bytes], bytes], memory: str, tmp_path: Path
) -> None:
    (tmp_path / "good.pb").write_bytes(signed(b"code"))
    (tmp_path / "bad.pb").write_bytes(damage(signed(b"code")))
    (tmp_path / "bad.pb77.tmp").write_bytes(b"co")
    load_entries(tmp_path)
    assert in_memory(memory) == {"good.pb": b"code"}
    assert [path.name for path in tmp_path.iterdir()] == ["good.pb"]


def test_the_oldest_files_are_deleted(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xla_cache, "MAX_BYTES", 2 * len(signed(b"code")))
    for age in range(4):
        path = tmp_path / f"{age}.pb"
        path.write_bytes(signed(b"code"))
        os.utime(path, (1000 - age, 1000 - age))
    load_entries(tmp_path)
    assert sorted(in_memory(memory)) == ["0.pb", "1.pb"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.pb", "1.pb"]


def test_what_has_no_room_is_left_out(memory: str, tmp_path: Path) -> None:
    names = write_in_memory(memory, small=b"code", large=bytes(100_000))
    with no_room_beyond(1000):
        save_entries(tmp_path, {"large.pb"})
        save_entries(tmp_path, names)
    assert {path.name for path in tmp_path.iterdir()} <= {"small.pb"}


def test_a_folder_that_is_gone_is_done_without(memory: str, tmp_path: Path) -> None:
    names = write_in_memory(memory, a=b"code")
    load_entries(tmp_path / "gone")
    assert in_memory(memory) == {"a.pb": b"code"}
    save_entries(tmp_path / "gone", names)
    (tmp_path / "link.pb").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.pb").mkdir()
    os.mkfifo(tmp_path / "pipe.pb")
    load_entries(tmp_path)
    assert in_memory(memory) == {}


def test_memory_holds_no_more_than_the_disk(memory: str, tmp_path: Path) -> None:
    save_entries(tmp_path, write_in_memory(memory, a=b"code", b=b"code"))
    (tmp_path / "a.pb").unlink()
    load_entries(tmp_path)
    assert sorted(in_memory(memory)) == ["b.pb"]
