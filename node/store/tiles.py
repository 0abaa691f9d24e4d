"""Tiles: of each 256 leaves the store keeps their root, and of each 256 of those the one above.

That is a quarter of a byte a leaf, and enough to build any proof from at most 256 records.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import tile_key
from tallystick.protocol.merkle import HASH_SIZE, root_of

TILE = 256


def tile_rows(
    first: int, leaves: Sequence[bytes], roots: Sequence[bytes]
) -> list[tuple[int, bytes]]:
    """(tile number, its root ‖ its last leaf's hash) of the tiles that a batch completed, whose
    first leaf has the index `first`.
    """
    start = first // TILE
    return [
        (start + n, root + leaves[(start + n + 1) * TILE - 1 - first])
        for n, root in enumerate(roots)
    ]


def put_tile(txn: Txn, log: int, number: int, value: bytes) -> None:
    """Store a completed tile, and the tile above once it is complete."""
    txn.put("tiles", tile_key(log, 1, number), value)
    level = 1
    while (number + 1) % TILE == 0:
        below = range(number + 1 - TILE, number + 1)
        roots = [txn.get("tiles", tile_key(log, level, n)) for n in below]
        number //= TILE
        level += 1
        txn.put(
            "tiles",
            tile_key(log, level, number),
            root_of([root[:HASH_SIZE] for root in roots if root]),
        )
