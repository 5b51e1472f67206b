"""Lines of JSON after a crash: cut at any byte, the whole ones are read and the next one fits."""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imdbtune.files import append_line, read_lines

VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.text("}\n\0{")
RECORDS = st.dictionaries(st.text(string.printable, max_size=5), VALUES, max_size=3)
# What a power failure leaves of a line: some of it, or zeros where a block was allocated for it.
ZEROS = st.builds(
    lambda count, end: bytes(count) + end, st.integers(1, 400), st.sampled_from([b"", b"\n"])
)
TORN = st.just(b"") | ZEROS


@given(st.lists(RECORDS, max_size=4), RECORDS, st.integers(0), TORN)
def test_cut_at_any_byte_the_whole_lines_are_read_and_one_can_be_added(
    records: list[dict[str, object]], new: dict[str, object], cut: int, zeros: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lines.jsonl")
        path.touch()
        for record in records:
            append_line(path, record, sync=False)
        raw = path.read_bytes()
        assert raw == b"".join(json.dumps(record).encode() + b"\n" for record in records)
        left = raw[: cut % (len(raw) + 1)]
        ends = [end for _, end in read_lines(path)]
        whole = records[: sum(end <= len(left) for end in ends)]
        path.write_bytes(left + zeros)
        assert [record for record, _ in read_lines(path, strict=True)] == whole
        assert path.read_bytes() == left + zeros
        append_line(path, new, sync=False)
        assert [record for record, _ in read_lines(path, strict=True)] == [*whole, new]
        assert path.read_bytes().startswith(raw[: ends[len(whole) - 1] if whole else 0])
