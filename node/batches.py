"""Batches of a log's records: as they are stored and sent, and on their way to the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tallystick.node.store.keyspace import HeadRow
from tallystick.node.store.tiles import TILE
from tallystick.protocol.derive import Changes
from tallystick.protocol.records import Record, batch_bytes, batch_count


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in a row as they are stored and sent; `signature` is empty if there is none yet."""

    first: int
    data: bytes
    root: bytes
    signature: bytes

    @property
    def size(self) -> int:
        """The log's size after it."""
        return self.first + batch_count(self.data)


def cut_at_tiles(first: int, parts: Sequence[bytes], data: bytes) -> list[tuple[int, bytes]]:
    """A batch as it is stored, `first` being its first index: cut where tiles of the log's tree
    end, so that a record can be read without a batch of thousands.
    """
    if first // TILE == (first + len(parts) - 1) // TILE:
        return [(first, data)]
    begin = first % TILE
    cuts = [0, *range(TILE - begin, len(parts), TILE), len(parts)]
    return [(first + at, batch_bytes(parts[at:stop])) for at, stop in pairwise(cuts)]


@dataclass(slots=True)
class Prepared:
    """A batch between its preparation and its commit."""

    first: int
    records: Sequence[Record]
    data: bytes
    head: HeadRow
    changes: Changes
    corrects: bool  # whether there are corrections among them
