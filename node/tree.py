"""A log's Merkle tree as the store keeps it: one hash for 256 leaves, and one for 256 of those.

What lies below is recomputed from at most 256 records, so a root or a proof at any size costs the
same in a short log and in a long one.
"""

from __future__ import annotations

from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import tile_key
from tallystick.node.store.source import stored_parts
from tallystick.node.store.tiles import TILE
from tallystick.protocol.merkle import (
    HASH_SIZE,
    Frontier,
    chain_leaves,
    consistency_path,
    node_hash,
    root_of,
)


class LogTree:
    """The tree over a log's first `size` records; each tile is recomputed once at most."""

    def __init__(self, txn: Txn, log: int, channel_id: bytes, size: int) -> None:
        self.size = size
        self._txn, self._log, self._channel_id = txn, log, channel_id
        self._tiles: dict[int, tuple[list[bytes], list[bytes]]] = {}

    def _tile(self, number: int) -> tuple[list[bytes], list[bytes]]:
        """The records of a tile, and its leaf hashes after the one before it."""
        if number not in self._tiles:
            previous = self._channel_id
            if number:
                row = self._txn.get("tiles", tile_key(self._log, 1, number - 1))
                assert row is not None
                previous = row[HASH_SIZE:]
            start = number * TILE
            parts = list(stored_parts(self._txn, self._log, start, min(start + TILE, self.size)))
            self._tiles[number] = parts, [previous, *chain_leaves(previous, parts)]
        return self._tiles[number]

    def leaf_data(self, index: int) -> bytes:
        """A record after the leaf hash before it."""
        parts, leaves = self._tile(index // TILE)
        return leaves[index % TILE] + parts[index % TILE]

    def last_leaf(self) -> bytes:
        """The hash of the last leaf; the channel id if there is none."""
        if not self.size:
            return self._channel_id
        return self._tile((self.size - 1) // TILE)[1][(self.size - 1) % TILE + 1]

    def subtree(self, start: int, end: int) -> bytes:
        """The Merkle tree hash of the leaves from `start` up to `end`."""
        width = end - start
        level, span = 0, 1
        while span * TILE <= width:
            level, span = level + 1, span * TILE
        if level and start % span == 0 and width % span == 0:
            rows = self._rows(level, start // span, end // span)
            if len(rows) == width // span:
                return root_of(rows)
        if start // TILE == (end - 1) // TILE:
            _, leaves = self._tile(start // TILE)
            first = start % TILE + 1
            return root_of(leaves[first : first + width])
        half = 1 << ((width - 1).bit_length() - 1)
        return node_hash(self.subtree(start, start + half), self.subtree(start + half, end))

    def _rows(self, level: int, first: int, stop: int) -> list[bytes]:
        """The roots of subtrees in a row, of those that are complete."""
        start, end = (tile_key(self._log, level, number) for number in (first, stop))
        return [value[:HASH_SIZE] for _, value in self._txn.scan("tiles", start, end)]

    def frontier(self) -> Frontier:
        """The tree's right edge."""
        peaks, start = [], 0
        for bit in reversed(range(self.size.bit_length())):
            if self.size >> bit & 1:
                peaks.append(self.subtree(start, start + (1 << bit)))
                start += 1 << bit
        return Frontier(self.size, tuple(peaks))

    def root(self) -> bytes:
        """The tree's root."""
        return self.frontier().root()

    def consistency(self, size: int) -> list[bytes]:
        """The proof that the tree of the first `size` leaves is a prefix of this one."""
        return consistency_path(size, self.size, self.subtree)
