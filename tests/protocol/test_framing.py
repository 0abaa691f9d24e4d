"""Frames: bodies survive any cutting of the stream; bad lengths are refused at the header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import FormatError
from tallystick.protocol.framing import FrameReader, frame

LIMIT = 1000


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=60), max_size=8),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_bodies_come_out_however_the_stream_is_cut(bodies: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(frame(body) for body in bodies)
    reader, out, at, turn = FrameReader(LIMIT), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
        while (body := reader.next_body()) is not None:
            out.append(body)
    assert out == bodies
    assert reader.pending_bytes == 0


def test_a_frame_is_a_big_endian_length_and_its_body() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"


def test_a_partial_frame_waits() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(frame(b"abcdef")[:7])
    assert reader.next_body() is None
    assert reader.pending_bytes == 7


@pytest.mark.parametrize("length", [0, LIMIT + 1, 2**32 - 1])
def test_a_bad_length_is_refused_at_the_header_and_nothing_is_kept(length: int) -> None:
    reader = FrameReader(LIMIT)
    reader.feed(length.to_bytes(4, "big")[:3])
    with pytest.raises(FormatError, match=f"a frame of {length} bytes"):
        reader.feed(length.to_bytes(4, "big")[3:] + b"x" * 500)
    assert reader.pending_bytes == 0


def test_the_longest_body_passes() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(frame(b"x" * LIMIT))
    assert reader.next_body() == b"x" * LIMIT


def test_a_good_frame_before_a_bad_one_is_still_given() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(frame(b"good") + bytes(4))
    assert reader.next_body() == b"good"
    with pytest.raises(FormatError):
        reader.next_body()
