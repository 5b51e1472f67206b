"""Read NumPy object arrays from a pickle without running any code of the pickle.

A pickle is a program. Three checks restrict it:

1. Every opcode of the stream is checked before the first is executed. An opcode that the pickle of
   an array of lists of integers does not need is refused: instances, extension codes, persistent
   ids, memo slots beyond 2**24.
2. A global is looked up in a short list of names and never imported.
3. Those names stand for small Python objects of this file. NumPy gets only the bytes of an integer
   array, after its type and length were checked.

A stream may still need much memory for its size; callers limit the size.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from imdbtune.errors import short_repr

_ANY = rb".{%d}"
_ARGUMENTS = {  # opcode -> pattern of its argument, which has a fixed length
    **dict.fromkeys((pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.MARK), b""),
    **dict.fromkeys((pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS), b""),
    **dict.fromkeys((pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3), b""),
    **dict.fromkeys((pickle.EMPTY_TUPLE, pickle.MEMOIZE, pickle.REDUCE, pickle.BUILD), b""),
    **dict.fromkeys((pickle.PROTO, pickle.BININT1, pickle.BINPUT, pickle.BINGET), _ANY % 1),
    pickle.BININT2: _ANY % 2,
    pickle.BININT: _ANY % 4,
    pickle.LONG_BINPUT: rb".{3}\0",  # CPython allocates a memo up to the slot's number
    pickle.LONG_BINGET: _ANY % 4,
    pickle.FRAME: _ANY % 8,
    pickle.GLOBAL: rb"[^\n]*\n[^\n]*\n",
    pickle.STACK_GLOBAL: b"",
}
_RUN = re.compile(
    b"(?:%s)*+" % b"|".join(b"(?:%s%s)++" % (re.escape(op), a) for op, a in _ARGUMENTS.items()),
    re.DOTALL,
)
_COUNTED = {  # opcode -> bytes of the count that precedes its argument
    **dict.fromkeys((pickle.SHORT_BINUNICODE, pickle.SHORT_BINSTRING), 1),
    **dict.fromkeys((pickle.SHORT_BINBYTES, pickle.LONG1), 1),
    **dict.fromkeys((pickle.BINUNICODE, pickle.BINSTRING, pickle.BINBYTES), 4),
}
_DTYPE = re.compile(r"[iu][1248]|O8?")

Row = list[object] | npt.NDArray[np.generic]


def load_rows(data: bytes, start: int = 0) -> list[object]:
    """Return the elements of the one-dimensional object array pickled in ``data[start:]``.

    Elements that are arrays themselves come back as integer arrays or lists, others as they are.

    Raises:
        pickle.UnpicklingError: the stream contains anything else; none of it was executed.
        Exception: any error that a damaged stream causes in the unpickler.
    """
    _check_opcodes(data, start)
    stream = io.BytesIO(data)
    stream.seek(start)
    # latin1: Python 2 wrote bytes as str
    array = _Unpickler(io.BufferedReader(stream), encoding="latin1").load()
    if not isinstance(array, _Array) or not isinstance(array.values, list):
        raise pickle.UnpicklingError("the pickle does not hold an object array")
    return [row.values if isinstance(row, _Array) else row for row in array.values]


def _check_opcodes(data: bytes, at: int) -> None:
    """Raise UnpicklingError unless all opcodes from byte ``at`` on are allowed, STOP last."""
    while True:
        at = _RUN.match(data, at).end()  # type: ignore[union-attr]  # the empty run always matches
        opcode = data[at : at + 1]
        if opcode == pickle.STOP and at + 1 == len(data):
            return
        if opcode not in _COUNTED or at >= len(data):
            raise pickle.UnpicklingError(f"refused: {_opcode_name(opcode)} at byte {at}")
        start = at + 1 + _COUNTED[opcode]
        at = start + int.from_bytes(data[at + 1 : start], "little")


def _opcode_name(opcode: bytes) -> str:
    if not opcode:
        return "a truncated pickle"
    names = {op.code.encode("latin1"): op.name for op in pickletools.opcodes}
    return f"opcode {names.get(opcode) or short_repr(opcode)}"


class _Global:
    """The value of an allowed name: it can be called, and nothing else."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("refused: changing a global")


class _Dtype:
    """Stand-in for ``numpy.dtype(code, align, copy)``; state: (version, byte order, ...)."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"refused: array type {short_repr(code)}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError("refused: an unknown byte order")
        self.order = str(state[1])


class _Array:
    """Stand-in for a 1-D ``numpy.ndarray``; state: (version, shape, dtype, order, data)."""

    __slots__ = ("values",)

    def __init__(self, *_: object) -> None:
        self.values: Row | None = None

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, _, data = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("refused: an array without a type")
        if dtype.code.startswith("O"):
            values: Row = data if isinstance(data, list) else []
        elif isinstance(data, (str, bytes)):
            raw = data.encode("latin1") if isinstance(data, str) else data
            values = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))
        else:
            raise pickle.UnpicklingError("refused: an array without bytes")
        if shape != (len(values),):
            raise pickle.UnpicklingError("refused: an array whose shape does not match its data")
        self.values = values


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for ``_codecs.encode``, with which Python 3 writes bytes in protocol 2: latin1."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: encoding {short_repr(encoding)}")
    return text.encode("latin1")


def _refuse_call(*_: object) -> object:
    raise pickle.UnpicklingError("refused: a call of numpy.ndarray")


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _Global(_Array),  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _Global(_Array),  # NumPy 2
    ("numpy", "ndarray"): _Global(_refuse_call),
    ("numpy", "dtype"): _Global(_Dtype),
    ("_codecs", "encode"): _Global(_encode),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused: {short_repr(f'{module}.{name}')}") from None
