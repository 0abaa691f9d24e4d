"""Lines out of pieces, however they are cut and packed."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.intake.lines import LINE_BYTES_MAX, PIECE_BYTES, Gunzip, LineSplitter
from tallystick.protocol.errors import InputError

PIECES = st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\x00", b"\n")))


@given(PIECES)
def test_lines_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    rest = splitter.end()
    assert bool(rest) == (not whole.endswith(b"\n") and bool(whole))
    lines += rest
    expected = whole.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_a_line_without_end_is_one_refused_line_and_is_not_kept(size: int) -> None:
    splitter = LineSplitter()
    long = b"x" * (LINE_BYTES_MAX + 1)
    content = b"a\n" + long * 3 + b"\nb\n" + long
    lines = []
    for start in range(0, len(content), size):
        lines += splitter.feed(content[start : start + size])
        assert len(splitter._rest) <= LINE_BYTES_MAX
    assert lines + splitter.end() == [b"a", None, b"b", None]


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.integers(1, 30))
def test_gzip_of_several_members(members: list[bytes], size: int) -> None:
    packed = b"".join(gzip.compress(member) for member in members)
    gunzip = Gunzip()
    found = b"".join(
        piece
        for start in range(0, len(packed), size)
        for piece in gunzip.feed(packed[start : start + size])
    )
    gunzip.end()
    assert found == b"".join(members)


def test_a_bomb_comes_out_in_small_pieces() -> None:
    packed = gzip.compress(bytes(50_000_000))
    assert len(packed) < 100_000
    sizes = [len(piece) for piece in Gunzip().feed(packed)]
    assert (sum(sizes), max(sizes)) == (50_000_000, PIECE_BYTES)


def test_what_is_not_gzip_or_cut_off_says_so() -> None:
    with pytest.raises(InputError, match="not gzip"):
        list(Gunzip().feed(b"plain text"))
    with pytest.raises(InputError, match="not gzip"):
        list(Gunzip().feed(gzip.compress(b"a") + b"garbage"))
    cut = Gunzip()
    list(cut.feed(gzip.compress(b"a" * 99)[:-3]))
    with pytest.raises(InputError, match="cut off"):
        cut.end()
    with pytest.raises(InputError, match="not gzip"):
        list(Gunzip().feed(zlib.compress(b"a")))
