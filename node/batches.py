"""Batches of a log's records: as they are stored and sent, and on their way to the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.node.store.keyspace import HeadRow
from tallystick.protocol.derive import Changes
from tallystick.protocol.records import Record, batch_count


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


@dataclass(slots=True)
class Prepared:
    """A batch between its preparation and its commit."""

    first: int
    records: Sequence[Record]
    data: bytes
    head: HeadRow
    changes: Changes
    corrects: bool  # whether there are corrections among them
