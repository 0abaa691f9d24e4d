"""Making anew what follows from a log's records, and taking back the end of a log.

Both are rare: a damaged index, a home that came back from an old copy. So they are simple, read the
log from its beginning, and keep in memory only what grows with the number of lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from tallystick.node.store.disk import Txn
from tallystick.node.store.idindex import RECENT_MAX, IdIndex
from tallystick.node.store.keyspace import (
    COVERED_NOTHING,
    CheckpointRow,
    DerivedRow,
    LogRow,
    UnplacedRow,
    encode_row,
    index_key,
    index_of,
    line_key,
    log_key,
    pack_tally,
    tile_key,
)
from tallystick.node.store.matters import (
    CHECKPOINT_MARK,
    CLOSE_PREFIX,
    close_digest,
    rows_from,
)
from tallystick.node.store.source import batches
from tallystick.node.store.tiles import TILE
from tallystick.node.tree import LogTree
from tallystick.protocol.log import LogFacts, fold_facts
from tallystick.protocol.records import Correction, Delta, decode_batch
from tallystick.protocol.replay import replay_log

if TYPE_CHECKING:
    from tallystick.node.logs import ChannelLog

LEVELS_MAX = 8  # of tiles: 256^8 leaves are more than a log can have

_decode_checkpoint = msgspec.msgpack.Decoder(CheckpointRow).decode


def rebuild(log: ChannelLog, size: int) -> None:
    """Make the balances and the id index of the log's first `size` records anew, durably."""
    index = index_anew(log, size)
    lines = _lines(log, size)
    row = DerivedRow(size, index.rows())
    index.close()

    def job(txn: Txn) -> None:
        _delete(txn, "lines", log_key(log.number), log_key(log.number + 1))
        for key, value in lines.items():
            txn.put("lines", key, value)
        txn.put("derived", log_key(log.number), encode_row(row))

    log.store.commit_now(job)


def find_closes(log: ChannelLog, said: bytes) -> None:
    """Note the closes of a store of an older version; `said` is the newest one's digest."""
    newest = log.newest_close()
    if not said or (newest is not None and close_digest(newest) == said):
        return
    with log.store.read() as txn:
        marked = [(n, value) for n, value in batches(txn, log.number) if CHECKPOINT_MARK in value]
    log.adopt_closes(
        (index, part)
        for first, value in marked
        for index, part in enumerate(decode_batch(value)[1], first)
        if part.startswith(CLOSE_PREFIX)
    )


def index_anew(log: ChannelLog, size: int) -> IdIndex:
    """The id index of the log's first `size` records, as new files."""
    index = IdIndex(log.index_folder, log.number, [])
    start = 0
    for first, records in log.records(0, size):
        deltas = [(n, record) for n, record in enumerate(records, first) if type(record) is Delta]
        prints = log.fingerprints([(delta.meter, delta.id) for _, delta in deltas])
        index.add(prints, [n for n, _ in deltas])
        below = first + len(records)
        if index.recent >= RECENT_MAX or (below == size and index.recent):
            index.write(start, below)
            start = below
    return index


def _lines(log: ChannelLog, size: int) -> dict[bytes, bytes]:
    """The rows of the log's balance lines at `size`, with what closed periods billed of them."""
    corrected = frozenset(
        (record.meter, record.id)
        for _, records in log.records(0, size)
        for record in records
        if type(record) is Correction
    )

    def source() -> Iterator[bytes]:
        at = 0
        while at < size:
            batch = log.batch_from(at, size)
            yield batch.data
            at = batch.size

    with log.store.read() as txn:
        number = log.number // 2
        scan = txn.scan("checkpoints", log_key(number), log_key(number + 1))
        rows = [_decode_checkpoint(value) for _, value in scan]
    stops = [(row.size_of(log.role), row.end_us) for row in rows]
    tallies = replay_log(log.folder, source, size, stops, corrected)
    return {line_key(log.number, key): pack_tally(tally) for key, tally in tallies.items()}


def cut(log: ChannelLog, size: int) -> None:
    """Take the records from index `size` on out of the log, and set them aside, durably.

    `size` is the end of a batch, nothing is in flight, and what is cut was never signed.
    """
    with log.store.read() as txn:
        scan = txn.scan("batches", index_key(log.number, size), log_key(log.number + 1))
        aside = [(index_of(key), value) for key, value in scan]
        tree = LogTree(txn, log.number, log.channel_id, size)
        frontier, last_leaf = tree.frontier(), tree.last_leaf()
        heads = _keys(txn, "heads", index_key(log.number, size + 1), log_key(log.number + 1))
        tiles = [
            key for level in range(1, LEVELS_MAX) for key in _tiles_from(txn, log, level, size)
        ]
        corrections = [
            key
            for key in _keys(txn, "corrections", log_key(log.number), log_key(log.number + 1))
            if int.from_bytes(key[-8:], "big") >= size
        ]
        following = rows_from(txn, log.number, size)
    facts = LogFacts()
    for first, records in log.records(0, size):
        facts = fold_facts(facts, first, records)
    row = LogRow(
        size,
        last_leaf,
        frontier.to_bytes(),
        facts,
        log.signed_size,
        log.cosigned_size,
        log.held_bytes,  # a peer's log is never cut, and ours has no quota
    )

    def job(txn: Txn) -> None:
        for number, (first, value) in enumerate(aside, free_number(txn, "aside", log.number)):
            txn.delete("batches", index_key(log.number, first))
            txn.put("aside", index_key(log.number, number), value)
        for table, keys in (("heads", heads), ("tiles", tiles), ("corrections", corrections)):
            for key in keys:
                txn.delete(table, key)
        for table, key in following:
            txn.delete(table, key)
        txn.put("logs", log_key(log.number), encode_row(row))
        txn.put("derived", log_key(log.number), encode_row(DerivedRow(COVERED_NOTHING, [])))

    log.store.commit_now(job)


def _tiles_from(txn: Txn, log: ChannelLog, level: int, size: int) -> list[bytes]:
    """The keys of the tiles of a level that reach beyond `size`."""
    start = tile_key(log.number, level, size // TILE**level)
    return _keys(txn, "tiles", start, tile_key(log.number, level + 1, 0))


def _keys(txn: Txn, table: str, start: bytes, stop: bytes) -> list[bytes]:
    return [key for key, _ in txn.scan(table, start, stop)]


def _delete(txn: Txn, table: str, start: bytes, stop: bytes) -> None:
    for key in _keys(txn, table, start, stop):
        txn.delete(table, key)


def free_number(txn: Txn, table: str, log: int) -> int:
    """The number after the last one of a log in a table whose keys are log and number."""
    found = txn.floor(table, index_key(log, 2**64 - 1))
    return index_of(found[0]) + 1 if found and found[0].startswith(log_key(log)) else 0


def aside_rows(txn: Txn, log: int) -> list[tuple[bytes, bytes]]:
    """The keys and batches that were cut from a log and wait to be recorded again."""
    return list(txn.scan("aside", log_key(log), log_key(log + 1)))


def unplaced_rows(txn: Txn, log: int) -> list[UnplacedRow]:
    """What was cut from a log and could not be recorded again, and why."""
    scan = txn.scan("unplaced", log_key(log), log_key(log + 1))
    return [msgspec.msgpack.decode(value, type=UnplacedRow) for _, value in scan]
