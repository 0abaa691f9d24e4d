"""The one source of a log's records: the store, and for what was dropped from it, segments.

What is dropped is always a log's beginning. In place of what was stored the same records come from
segments, cut the same way, so that whoever reads batches sees none of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tallystick.node.segments import SEGMENT
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import index_key, index_of, log_key
from tallystick.node.store.tiles import TILE
from tallystick.protocol.records import batch_bytes, split_batch


def batches(txn: Txn, log: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The durable records of a log as they are stored, from where record `start` is: first index,
    batch. A batch with a head is one of these or several in a row.
    """
    found = _row_of(txn, log, start)
    if found is not None:
        txn.ahead("batches", found)
        yield from _stored(txn, log, index_of(found))
        return
    kept = kept_from(txn, log)
    if start < kept:
        yield from _sealed(txn, log, start, kept)
    yield from _stored(txn, log, max(start, kept))


def kept_from(txn: Txn, log: int) -> int:
    """The index of the first record of a log that is in the store: what is before was dropped."""
    for key, _ in txn.scan("batches", log_key(log), log_key(log + 1)):
        return index_of(key)
    return 0


def heads_from(txn: Txn, log: int, least: int, most: int) -> Iterator[int]:
    """The sizes of the heads of a log, from the `least` one that is asked for to the `most`."""
    for key, _ in txn.scan("heads", index_key(log, least), index_key(log, most + 1)):
        yield index_of(key)


def sealed_below(txn: Txn, log: int) -> int:
    """Below which index all records of a log are in segments."""
    found = txn.floor("segments", index_key(log, 2**64 - 1))
    if found is None or not found[0].startswith(log_key(log)):
        return 0
    return index_of(found[0]) + SEGMENT


def stored_parts(txn: Txn, log: int, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a log's records from index `start` up to `stop`."""
    if _row_of(txn, log, start) is None:
        kept = min(kept_from(txn, log), stop)
        if start < kept:
            yield from txn.segments.parts(txn, log, start, kept)
            start = kept
    for first, batch in batches(txn, log, start):
        if first >= stop:
            return
        yield from split_batch(batch, max(start - first, 0), stop - first)


def _row_of(txn: Txn, log: int, index: int) -> bytes | None:
    """The key of the row that has a record, or would have it; None if that is before all rows."""
    found = txn.floor_key("batches", index_key(log, index))
    return found if found is not None and found.startswith(log_key(log)) else None


def _stored(txn: Txn, log: int, first: int) -> Iterator[tuple[int, bytes]]:
    for key, value in txn.scan("batches", index_key(log, first), log_key(log + 1)):
        yield index_of(key), value


def _sealed(txn: Txn, log: int, start: int, kept: int) -> Iterator[tuple[int, bytes]]:
    """What was dropped, from where record `start` is up to index `kept`."""
    head = txn.floor("heads", index_key(log, start))
    first = index_of(head[0]) if head is not None and head[0].startswith(log_key(log)) else 0
    first = max(first, start // TILE * TILE)
    for size in chain(heads_from(txn, log, first + 1, kept - 1), [kept]):
        while first < size:
            stop = min(size, first // TILE * TILE + TILE)
            yield first, batch_bytes(txn.segments.parts(txn, log, first, stop))
            first = stop
