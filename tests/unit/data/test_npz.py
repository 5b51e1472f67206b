from __future__ import annotations

import copyreg
import io
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune.data.npz import read_npz
from imdbtune.errors import UserError

MakeNpz = Callable[..., bytes]


def npy(stream: bytes, shape: tuple[int, ...] = (3,), descr: str = "|O") -> bytes:
    """An .npy file with a header and then whatever the stream holds."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + stream


def refusal(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "bad.npz"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_npz(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def rows(*reviews: object) -> np.ndarray:
    array = np.empty(len(reviews), object)
    array[:] = reviews
    return array


# What is read


def test_splits_are_shuffled_as_keras_does(tmp_path: Path, small_npz: MakeNpz) -> None:
    (tmp_path / "x.npz").write_bytes(small_npz())
    train, test = read_npz(tmp_path / "x.npz")
    rng = np.random.RandomState(113)
    reviews, labels = [[1, 4, 5, 6], [1, 7, 703], [1, 8]], [1, 0, 1]
    for split in (train, test):
        order = np.arange(3)
        rng.shuffle(order)
        assert [review.tolist() for review in split] == [reviews[i] for i in order]
        assert split.labels.tolist() == [labels[i] for i in order]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", [list, "i1", "u2", "<i4", ">i4", "i8"])
def test_rows_are_lists_or_integer_arrays(
    tmp_path: Path, small_npz: MakeNpz, protocol: int, kind: Any
) -> None:
    make = list if kind is list else lambda row: np.array(row, kind)
    stream = pickle.dumps(rows(make([9, 7]), make([100]), make([8])), protocol)
    (tmp_path / "x.npz").write_bytes(small_npz(x_train=npy(stream)))
    train, _ = read_npz(tmp_path / "x.npz")
    assert sorted(review.tolist() for review in train) == [[1, 11], [1, 12, 10], [1, 103]]


def test_long_and_empty_reviews_and_large_ranks_survive(tmp_path: Path, small_npz: MakeNpz) -> None:
    long = [*range(1, 70_000), 2**31 - 4]
    (tmp_path / "x.npz").write_bytes(small_npz(x_train=rows(long, [], [2])))
    train, _ = read_npz(tmp_path / "x.npz")
    assert min(train, key=len).tolist() == [1]
    assert max(train, key=len).tolist() == [1, *(rank + 3 for rank in long)]


def test_a_file_of_python_2_is_read(tmp_path: Path, small_npz: MakeNpz) -> None:
    """Protocol 2 with strings for bytes and long integers, as NumPy 1 on Python 2 wrote it."""
    stream = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89]q\x01"
        b"(](K\x05K\x06e]K\x07a]\x8a\x01\x08aetb."
    )
    assert [list(row) for row in pickle.loads(stream)] == [[5, 6], [7], [8]]
    (tmp_path / "x.npz").write_bytes(small_npz(x_train=npy(stream)))
    train, _ = read_npz(tmp_path / "x.npz")
    assert sorted(review.tolist() for review in train) == [[1, 8, 9], [1, 10], [1, 11]]


# Programs


class Call:
    """Pickles to a call of ``function``."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def attacks(marker: Path) -> dict[str, bytes]:
    """Pickles that make ``marker`` when a plain unpickler reads them."""
    touch, write = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    text = b"X" + struct.pack("<I", len(touch)) + touch.encode()
    by_map = b"cbuiltins\ntuple\ncbuiltins\nmap\ncos\nsystem\n]" + text + b"a\x86\x81\x85\x81."
    return {
        "os.system": pickle.dumps(Call(os.system, touch), 2),
        "os.system, protocol 0": pickle.dumps(Call(os.system, touch), 0),
        "os.system, protocol 4": pickle.dumps(Call(os.system, touch), 4),
        "eval": pickle.dumps(Call(eval, write), 4),
        "exec": pickle.dumps(Call(exec, write), 2),
        "shutil": pickle.dumps(Call(shutil.copyfile, __file__, str(marker)), 4),
        "numpy": pickle.dumps(Call(np.savetxt, str(marker), [1.0]), 4),
        "numpy method": pickle.dumps(Call(np.ndarray.tofile, np.zeros(1), str(marker)), 4),
        "inside an array": pickle.dumps(rows([1], Call(os.system, touch), [2]), 4),
        "inside a review": pickle.dumps(rows([1], [2, Call(os.system, touch)], [3]), 3),
        "INST": f"(S'{touch}'\nios\nsystem\n.".encode(),
        "OBJ": b"(cos\nsystem\n" + text + b"o.",
        "NEWOBJ": b"\x80\x02" + by_map,
        "EXT1": b"\x80\x02\x82\xf0" + text + b"\x85R.",
    }


@pytest.fixture
def _extension() -> Any:
    """Extension code 240 for os.system, already used once: then no class look-up takes place."""
    copyreg.add_extension(os.system.__module__, "system", 240)
    pickle.loads(b"\x80\x02\x82\xf0.")
    yield
    copyreg.remove_extension(os.system.__module__, "system", 240)
    copyreg.clear_extension_cache()


@pytest.mark.usefixtures("_extension")
@pytest.mark.parametrize("name", sorted(attacks(Path("marker"))))
def test_a_program_in_the_file_is_refused_before_it_runs(
    tmp_path: Path, small_npz: MakeNpz, name: str
) -> None:
    marker = tmp_path / "marker"
    stream = attacks(marker)[name]
    pickle.loads(stream)
    assert marker.exists(), "the attack itself must work"
    marker.unlink()
    for member in ("x_train", "x_test", "y_train", "y_test"):
        message = refusal(tmp_path, small_npz(**{member: npy(stream)}))
        assert not marker.exists()
        if member.startswith("x"):
            assert "refused: " in message


@pytest.mark.parametrize(
    ("stream", "refused"),
    [
        (pickle.dumps(Call(os.system, "true"), 4), "'posix.system'"),
        (pickle.dumps(Call(eval, "1"), 2), "'__builtin__.eval'"),
        (b"cnumpy\nndarray.__class__.mro\n.", "'numpy.ndarray.__class__.mro'"),
        (b"cnumpy.core.multiarray\nscalar\n.", "'numpy.core.multiarray.scalar'"),
        (b"Psome id\n.", "opcode PERSID"),
        (b"Nq\x00Q.", "opcode BINPERSID"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"Nr\xff\xff\xff\x7f.", "opcode LONG_BINPUT"),
        (b"}.", "opcode EMPTY_DICT"),
        (b"\xff.", r"opcode b'\xff'"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00V9\x85R.", "array type 'V9'"),
        (b"c_codecs\nencode\nU\x01aU\x05rot13\x86R.", "encoding 'rot13'"),
        (b"cnumpy\nndarray\nK\x09\x85\x85R.", "a call of numpy.ndarray"),
        (b"cnumpy\ndtype\nNN\x86b.", "changing a global"),
        (b"N", "truncated"),
        (b"X\xff\xff\xff\xffabc.", "truncated"),
        (b"N..", "opcode STOP"),
    ],
)
def test_what_was_refused_is_named(
    tmp_path: Path, small_npz: MakeNpz, stream: bytes, refused: str
) -> None:
    assert refused in refusal(tmp_path, small_npz(x_test=npy(stream)))


def array_pickle(shape: bytes, dtype: bytes, data: bytes, made: bytes = b"K\x00\x85") -> bytes:
    """A pickled array with parts of one's choice, each an expression in opcodes."""
    return (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + made + b"C\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"\x89\x88\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89" + data + b"tb."
    )


THREE, HUGE = b"K\x03\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85"
LISTS = b"](]K\x01a]K\x02a]K\x03ae"


@pytest.mark.parametrize(
    "stream",
    [
        array_pickle(HUGE, b"O8", LISTS),
        array_pickle(HUGE, b"i8", b"C\x08abcdefgh"),
        array_pickle(THREE, b"O8", b"C\x18" + b"\x41" * 24),  # bytes taken for pointers
        array_pickle(THREE, b"i8", LISTS),
        array_pickle(THREE, b"i8", b"C\x05abcde"),
        array_pickle(b"K\x01K\x03\x86", b"O8", LISTS),
        array_pickle(b"J\xff\xff\xff\xff\x85", b"O8", LISTS),
        array_pickle(b"N", b"O8", LISTS),
        b"\x80\x02](K\x01e.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)RNb.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        b"K\x01b.",
        b"(((.",
        b".",
        b"",
    ],
)
def test_malformed_arrays_are_refused(tmp_path: Path, small_npz: MakeNpz, stream: bytes) -> None:
    assert "x_train" in refusal(tmp_path, small_npz(x_train=npy(stream)))


def test_the_array_pickles_of_these_tests_are_well_formed_otherwise(
    tmp_path: Path, small_npz: MakeNpz
) -> None:
    """Also: the shape given to _reconstruct is not allocated."""
    stream = array_pickle(THREE, b"O8", LISTS, made=HUGE)
    (tmp_path / "x.npz").write_bytes(small_npz(x_train=npy(stream)))
    assert read_npz(tmp_path / "x.npz")[0].lengths.tolist() == [2, 2, 2]


# Broken files


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x_test": None}, "no x_test"),
        ({"y_train": None}, "no y_train"),
        ({"x_train": b"not an array"}, "x_train is not an .npy file"),
        ({"x_train": b""}, "x_train is not an .npy file"),
        ({"y_test": b"\x93NUMPY\x09\x00"}, "y_test is not an .npy file"),
        ({"y_test": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"}, "y_test is not an .npy file"),
        ({"x_train": np.array([1, 2, 3])}, "x_train is not an object array"),
        ({"x_train": np.array([[1, 2], [3, 4], [5, 6]], object)}, "x_train"),
        ({"y_train": np.array([1, 0])}, "x_train has 3 rows, y_train has 2"),
        ({"x_test": np.array([], object), "y_test": np.array([], int)}, "x_test has 0 rows"),
        ({"y_train": np.array([1, 0, 2])}, "labels other than 0 and 1"),
        ({"y_train": np.array([1, 0, -1])}, "labels other than 0 and 1"),
        (
            {"y_train": np.array([1.0, 0.0, 1.0])},
            "y_train is not a one-dimensional array of integers",
        ),
        (
            {"y_train": np.array([[1], [0], [1]])},
            "y_train is not a one-dimensional array of integers",
        ),
        ({"y_train": npy(bytes(24), (10**12,), "<i8")}, "y_train is truncated"),
        ({"y_train": npy(bytes(24), (-1,), "<i8")}, "y_train is truncated"),
        ({"y_train": npy(bytes(20), (3,), "<i8")}, "y_train is truncated"),
        ({"x_train": rows([1], [0], [2])}, "ranks below 1 or too large"),
        ({"x_train": rows([1], [-5], [2])}, "ranks below 1 or too large"),
        ({"x_train": rows([1], [2**31 - 1], [2])}, "ranks below 1 or too large"),
        ({"x_train": rows([1], [2**40], [2])}, "row 1 of x_train"),
        ({"x_train": rows([1], np.array([2**40]), [2])}, "row 1 of x_train"),
        (
            {"x_train": rows([1], [True], [2])},
            "row 1 of x_train: word ranks are integers, not bool",
        ),
        ({"x_train": rows([1], ["film"], [2])}, "not str"),
        ({"x_train": rows([1], [[2]], [2])}, "not list"),
        ({"x_train": rows([1], 7, [2])}, "row 1 of x_train: a int is not a list"),
        ({"x_train": rows([1], None, [2])}, "a NoneType is not a list"),
        ({"x_train": rows([1], [1.5], [2])}, "opcode BINFLOAT"),
        ({"x_train": rows([1], np.array([1.5]), [2])}, "array type 'f8'"),
    ],
)
def test_wrong_members_are_refused(
    tmp_path: Path, small_npz: MakeNpz, members: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, small_npz(**members))


def test_a_file_that_is_no_zip_or_is_cut_is_refused(tmp_path: Path, small_npz: MakeNpz) -> None:
    data = small_npz()
    for bad in (b"", b"hello", data[: len(data) // 2], data[:-1]):
        assert "zip" in refusal(tmp_path, bad)


def test_damaged_contents_are_refused(tmp_path: Path, small_npz: MakeNpz) -> None:
    data = bytearray(small_npz())
    at = data.index(b"x_train.npy") + 60  # inside the packed contents of the first member
    data[at] ^= 0xFF
    refusal(tmp_path, bytes(data))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.npz cannot be read: No such file"):
        read_npz(tmp_path / "none.npz")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, small_npz: MakeNpz) -> None:
    """Also where the header says that the member is small."""
    bomb = small_npz(x_train=npy(b"]" * 2**25))
    assert len(bomb) < 2**16
    assert "far more than its packed size" in refusal(tmp_path, bomb)
    size = struct.pack("<I", len(npy(b"]" * 2**25)))
    assert "CRC" in refusal(tmp_path, bomb.replace(size, struct.pack("<I", 2**20)))


def test_compression_that_numpy_does_not_use_is_refused(tmp_path: Path, small_npz: MakeNpz) -> None:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(small_npz())) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert "compressed in a way" in refusal(tmp_path, packed.getvalue())


def test_one_list_used_over_and_over_is_limited(
    tmp_path: Path, small_npz: MakeNpz, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imdbtune.data.npz._MAX_TOKENS", 10_000)
    long = [1] * 500
    shared = rows(*[long] * 100)
    message = refusal(tmp_path, small_npz(x_train=shared, y_train=np.zeros(100, int)))
    assert "more than 10,000 words" in message
