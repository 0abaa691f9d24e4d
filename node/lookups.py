"""Single records of a log by their indexes, with a few batches kept decoded.

Look-ups come in runs, as when a file is imported again, or alone and far apart. So the first one in
a batch takes its record out; the second one decodes all of it, which is kept for those to come.
"""

from __future__ import annotations

from tallystick.node.store.disk import Store
from tallystick.node.store.source import batches
from tallystick.protocol.records import Record, decode_batch, decode_record, split_batch

BATCHES_MAX = 16


class Lookups:
    """Of one log, among what is durable in the store."""

    __slots__ = ("_decoded", "_looked_at", "_number", "_store")

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self._number = number
        self._decoded: dict[int, list[Record]] = {}  # by their first index, the oldest first
        self._looked_at = -1  # the batch that a record was taken out of last

    def clear(self) -> None:
        """Keep nothing."""
        self._decoded.clear()
        self._looked_at = -1

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._decoded

    def record(self, index: int) -> Record:
        """The record at an index."""
        found = self._kept(index)
        if found is None:
            first, data = self._read(index)
            if first != self._looked_at:
                self._looked_at = first
                return decode_record(split_batch(data, index - first, index - first + 1)[0])
            found = self._decode(first, data)
        first, records = found
        return records[index - first]

    def batch_around(self, index: int) -> tuple[int, list[Record]]:
        """The batch that a record is in: its first index, and all its records."""
        return self._kept(index) or self._decode(*self._read(index))

    def _kept(self, index: int) -> tuple[int, list[Record]] | None:
        for first, records in self._decoded.items():
            if first <= index < first + len(records):
                return first, records
        return None

    def _read(self, index: int) -> tuple[int, bytes]:
        with self._store.read() as txn:
            return next(batches(txn, self._number, index))

    def _decode(self, first: int, data: bytes) -> tuple[int, list[Record]]:
        if len(self._decoded) >= BATCHES_MAX:
            del self._decoded[next(iter(self._decoded))]
        self._decoded[first] = decode_batch(data)[0]
        return first, self._decoded[first]
