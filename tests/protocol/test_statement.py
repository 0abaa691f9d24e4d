"""Lines, the statement's tree and its renderings."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest
from builders import Channel, busy_channel
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError
from tallystick.protocol.rendering import (
    COLUMNS,
    parse_statement_json,
    statement_csv,
    statement_json,
)
from tallystick.protocol.statement import (
    Line,
    decode_line,
    encode_line,
    first_difference,
    meter_units,
    statement_root,
)

TEXTS = st.text(st.characters(codec="utf-8", min_codepoint=0x20), min_size=1, max_size=20)
LINES = st.builds(
    Line,
    TEXTS,
    st.none() | TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
    st.none() | TEXTS,
    st.none() | TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
    st.integers(0, 2**62),
)
CHECKPOINT = busy_channel().closed[0].checkpoint
LINE = Line("2026-10", None, "tokens", "project-7", "token", "3", "3", "3", "0", "0", 2)


def changed(line: Line, **changes: object) -> Line:
    return msgspec.structs.replace(line, **changes)


@given(LINES)
def test_a_line_has_one_encoding(line: Line) -> None:
    assert decode_line(encode_line(line)) == line


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_line(LINE) + b"\0",
        encode_line(LINE)[:-1],
        encode_line(LINE)[:-1] + b"\xcc\x02",
        b"\xdc\x00\x0b" + encode_line(LINE)[1:],
        encode_line(LINE)[:-1] + b"\xff",
    ],
)
def test_other_bytes_are_not_a_line(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_line(data)


def test_every_field_moves_the_root() -> None:
    roots = {statement_root([LINE])}
    for name in COLUMNS:
        new: object = 3 if name == "deltas" else "other"
        roots.add(statement_root([changed(LINE, **{name: new})]))
    assert len(roots) == len(COLUMNS) + 1
    assert statement_root([LINE, LINE]) not in roots


def test_the_first_difference_is_the_earliest_in_order() -> None:
    a = [changed(LINE, subject=name) for name in "abc"]
    other = changed(a[1], payable="4")
    assert first_difference(a, [a[0], other, a[2]]) == (a[1], other)
    assert first_difference(a, [a[0], a[2]]) == (a[1], None)
    assert first_difference([a[0], a[2]], a) == (None, a[1])
    assert first_difference(a, a[:2]) == (a[2], None)
    assert first_difference(a[:2], a) == (None, a[2])
    assert first_difference(a, a) == (None, None)


def test_counts_are_in_deltas_whatever_is_measured() -> None:
    assert meter_units(Channel().terms) == {
        "calls": "delta",
        "gpu-hours": "GPU-hour",
        "peak": "GB",
        "tokens": "token",
    }


@given(st.lists(LINES, max_size=5))
def test_json_gives_the_lines_back(lines: list[Line]) -> None:
    data = statement_json(CHECKPOINT, lines)
    assert parse_statement_json(data) == lines
    assert json.loads(data)["checkpoint"] == CHECKPOINT.digest().hex()


@given(st.lists(LINES, max_size=5))
def test_csv_reads_back_as_any_reader_does(lines: list[Line]) -> None:
    data = statement_csv(lines).decode()
    rows = list(csv.reader(io.StringIO(data, newline=""), strict=True))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1:] == [
        ["" if v is None else str(v) for v in (getattr(line, name) for name in COLUMNS)]
        for line in lines
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b'{"lines": []}', b"[" * 100_000, b'{"channel": "\\ud800"}'],
)
def test_other_json_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_statement_json(data)
