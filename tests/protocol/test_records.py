"""Records have one encoding each, and everything else is refused."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError
from tallystick.protocol.records import (
    COLUMN_CHARS,
    INT64_MAX,
    INT64_MIN,
    TIME_MAX_US,
    Correction,
    Delta,
    batch_bytes,
    batch_count,
    check_texts,
    decode_batch,
    decode_record,
    encode_record,
    join_batches,
    split_batch,
    texts_plain,
)

_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(
    lambda text: len(text.encode()) <= 128
)
_times = st.integers(0, TIME_MAX_US)
_quantities = st.integers(INT64_MIN, INT64_MAX)
deltas = st.builds(
    Delta, _text, _text, _text, _quantities, _times, _times, st.none() | st.just(bytes(32))
)
corrections = st.builds(
    Correction, _text, _text, st.none() | _quantities, st.text(min_size=1, max_size=99), _times
)


@given(deltas | corrections)
def test_a_record_comes_back_as_it_was(record: Delta | Correction) -> None:
    assert decode_record(encode_record(record)) == record


@given(deltas)
def test_any_messagepack_library_writes_the_same_bytes(delta: Delta) -> None:
    fields = [2, *(getattr(delta, name) for name in delta.__struct_fields__)]
    assert msgpack.packb(fields) == encode_record(delta)


@given(st.lists(deltas, min_size=1, max_size=20), st.integers(0, 20))
def test_batches_split_and_join(records: list[Delta], at: int) -> None:
    parts = [encode_record(record) for record in records]
    whole = batch_bytes(parts)
    assert decode_batch(whole) == (records, parts)
    assert batch_count(whole) == len(records)
    pieces = [batch_bytes(half) for half in (parts[:at], parts[at:]) if half]
    assert join_batches(len(records), pieces) == whole


@given(deltas, st.data())
def test_a_flipped_byte_is_another_record_or_none(delta: Delta, data: st.DataObject) -> None:
    good = encode_record(delta)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_record(bytes(bad))
    except FormatError:
        return
    assert other != delta
    assert encode_record(other) == bytes(bad)


@pytest.mark.parametrize("junk", [b"", b"\x00", b"\xc0", b"\x90", b"\x91\x02", b"\xff" * 40])
def test_junk_is_no_record_and_no_batch(junk: bytes) -> None:
    with pytest.raises(FormatError):
        decode_record(junk)
    with pytest.raises(FormatError):
        decode_batch(junk)


def test_a_batch_with_another_header_is_refused() -> None:
    part = encode_record(Delta("a", "b", "c", 1, 1, 1, None))
    assert decode_batch(batch_bytes([part]))[1] == [part]
    assert split_batch(batch_bytes([part, b"\x90", part]), 1, 3) == [b"\x90", part]
    for other in (b"\x91" + part, b"\xdc\x00\x01" + part, batch_bytes([part]) + b"\xc0"):
        with pytest.raises(FormatError):
            decode_batch(other)


@pytest.mark.parametrize("text", ["", "a\n", "\x7f", "\x85", "é" * 65, "x" * 129])
def test_texts_that_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        check_texts(text)


@pytest.mark.parametrize("char", [*map(chr, range(0x102)), "\u2028", "\U0001f600"])
@pytest.mark.parametrize("chars", [1, COLUMN_CHARS])
def test_plain_is_ascii_without_controls(char: str, chars: int) -> None:
    text = "a" * (chars - 1)
    assert texts_plain(text + char) == (" " <= char <= "~")
    assert texts_plain(char + text) == (" " <= char <= "~")


@given(st.lists(st.text()))
def test_plain_texts_need_no_further_look(texts: list[str]) -> None:
    if texts_plain("".join(texts)):
        for text in texts:
            if 1 <= len(text) <= 128:
                check_texts(text)
