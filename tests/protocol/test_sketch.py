"""Sketches: what is read from them is the sets' difference, and broken ones are refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol import sketch
from tallystick.protocol.errors import FormatError
from tallystick.protocol.siphash import Words
from tallystick.protocol.sketch import (
    CELL_BYTES,
    BrokenSketch,
    Cells,
    Decoder,
    Encoder,
    TooManyDifferences,
    check_of,
    decode_cells,
)

KEY = bytes(range(16))
ITEMS = st.integers(0, 2**64 - 1)
SETS = st.sets(ITEMS, max_size=60)
MASK = 2**64 - 1


def _words(items: Sequence[int] | set[int]) -> Words:
    return np.array(sorted(items), np.uint64)


def _read(theirs: set[int], ours: set[int], first: int = 8) -> Decoder:
    """Read the sketch of `theirs`, block after block, until it is done."""
    encoder, decoder = Encoder(KEY, _words(theirs)), Decoder(KEY, _words(ours), 10**6)
    count = first
    while not decoder.take(decode_cells(encoder.next_cells(count).encode())):
        assert decoder.cells < 5000
        count = max(first, decoder.cells // 8)
    return decoder


@settings(max_examples=80)
@given(theirs=SETS, ours=SETS, both=SETS, first=st.integers(1, 40))
def test_what_is_read_is_the_difference(
    theirs: set[int], ours: set[int], both: set[int], first: int
) -> None:
    theirs, ours = theirs | both, ours | both
    decoder = _read(theirs, ours, first)
    assert set(decoder.theirs.tolist()) == theirs - ours
    assert set(decoder.ours.tolist()) == ours - theirs


def _naive(items: set[int], count: int) -> list[tuple[int, int, int]]:
    """The cells as the page of formats says, an item at a time."""
    cells = [(0, 0, 0)] * count
    for item in items:
        check = int(check_of(KEY, np.array([item], np.uint64))[0])
        state, at = check | 1, 0
        while at < count:
            total, checks, number = cells[at]
            cells[at] = ((total + item) & MASK, (checks + check) & MASK, number + 1)
            state = state * 0xDA942042E4DD58B5 & MASK
            chance = ((state >> 11) + 1) * 2.0**-53
            at += max(1, math.ceil((at + 1.5) * (1.0 / math.sqrt(chance) - 1.0)))
    return cells


@settings(max_examples=30)
@given(items=SETS, blocks=st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_cells_are_those_of_a_naive_encoder(items: set[int], blocks: list[int]) -> None:
    encoder = Encoder(KEY, _words(items))
    made = b"".join(encoder.next_cells(count).encode() for count in blocks)
    assert made == b"".join(
        total.to_bytes(8, "little")
        + (checks & (2**48 - 1)).to_bytes(6, "little")
        + bytes([number & 0xFF])
        for total, checks, number in _naive(items, sum(blocks))
    )


@pytest.mark.parametrize("differences", [1, 30, 1000])
def test_few_cells_are_enough(differences: int) -> None:
    random = np.random.default_rng(differences)
    items = random.integers(0, 2**64, 20_000 + differences, dtype=np.uint64).tolist()
    both, half = set(items[:20_000]), 20_000 + differences // 2
    decoder = _read(both | set(items[20_000:half]), both | set(items[half:]))
    assert len(decoder.theirs) + len(decoder.ours) == differences
    assert decoder.cells <= 24 + 1.7 * differences


@given(data=st.binary(max_size=5 * CELL_BYTES))
def test_cells_are_read_whole_or_not_at_all(data: bytes) -> None:
    if len(data) % CELL_BYTES:
        with pytest.raises(FormatError):
            decode_cells(data)
    else:
        assert decode_cells(data).encode() == data


@settings(max_examples=100)
@given(data=st.binary(min_size=CELL_BYTES, max_size=40 * CELL_BYTES), ours=SETS)
def test_noise_is_never_read_as_a_sketch(data: bytes, ours: set[int]) -> None:
    cells = decode_cells(data[: len(data) // CELL_BYTES * CELL_BYTES])
    decoder = Decoder(KEY, _words(ours), 1000)
    try:
        done = decoder.take(cells)
    except (BrokenSketch, TooManyDifferences):
        return
    # Zeros are the sketch of nothing, and so much noise is no other set's.
    assert not done or (not any(data) and set(decoder.ours.tolist()) == ours)


def test_another_key_gives_nothing() -> None:
    cells = Encoder(bytes(16), _words({1, 2, 3})).next_cells(100)
    decoder = Decoder(KEY, _words({1, 2, 3}), 100)
    assert not decoder.take(cells)


def test_an_item_that_is_in_a_set_twice_breaks_the_sketch() -> None:
    once = Encoder(KEY, _words({5})).next_cells(20)
    other = Encoder(KEY, _words({9})).next_cells(20)
    twice = Cells(
        once.sums * np.uint64(2) + other.sums,
        once.checks * np.uint64(2) + other.checks,
        once.counts * 2 + other.counts,
    )
    decoder = Decoder(KEY, _words(set()), 100)
    assert not decoder.take(twice)  # an item with count 2 is never single, so it is never done


def test_an_item_that_comes_back_is_refused() -> None:
    """A cheat whose item 5 is left in a cell after it was taken out of all its own."""
    five, nine = (Encoder(KEY, _words({item})).next_cells(40) for item in (5, 9))
    both = Encoder(KEY, _words({5, 9})).next_cells(40)
    index = int(np.flatnonzero((five.counts == 0) & (nine.counts == 1))[0])
    both.sums[index] += five.sums[0]
    both.checks[index] += five.checks[0]
    both.counts[index] += 1
    with pytest.raises(BrokenSketch, match="twice"):
        Decoder(KEY, _words(set()), 100).take(both)


def test_more_differences_than_allowed_are_refused() -> None:
    cells = Encoder(KEY, _words(set(range(1, 50)))).next_cells(200)
    with pytest.raises(TooManyDifferences, match="more than 10"):
        Decoder(KEY, _words(set()), 10).take(cells)


def test_a_sketch_that_gives_its_items_one_by_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sketch, "ROUNDS_MAX", 3)
    cells = Encoder(KEY, _words(set(range(1, 50)))).next_cells(100)
    with pytest.raises(BrokenSketch, match="in 3 rounds"):
        Decoder(KEY, _words(set()), 100).take(cells)
