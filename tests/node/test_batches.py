"""How a batch is cut where tiles end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.batches import cut_at_tiles
from tallystick.node.store.tiles import TILE
from tallystick.protocol.records import batch_bytes, batch_count, join_batches


@given(st.integers(0, 2000), st.integers(1, 1200))
def test_no_piece_reaches_over_a_tiles_end(first: int, count: int) -> None:
    parts = [bytes([n % 128]) for n in range(count)]
    whole = batch_bytes(parts)
    cut = cut_at_tiles(first, parts, whole)
    assert join_batches(count, [piece for _, piece in cut]) == whole
    at = first
    for begin, piece in cut:
        assert begin == at
        at += batch_count(piece)
        assert begin // TILE == (at - 1) // TILE
    assert [begin % TILE for begin, _ in cut[1:]] == [0] * (len(cut) - 1)


def test_a_batch_within_a_tile_is_stored_as_it_is() -> None:
    whole = batch_bytes([b"\x01"] * TILE)
    assert cut_at_tiles(3 * TILE, [b"\x01"] * TILE, whole) == [(3 * TILE, whole)]
    assert cut_at_tiles(3 * TILE, [b"\x01"] * TILE, whole)[0][1] is whole
