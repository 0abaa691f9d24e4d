"""Segments as the doctor sees them: read as they are, proven like all other records.

A file that is missing or altered is a finding and never a reason to cut a log: what is in segments
alone is lost only if the archive is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, islice

import msgspec

from tallystick.node.batches import cut_at_tiles
from tallystick.node.doctor.findings import Damaged, LogFindings
from tallystick.node.doctor.tables import decoded, value_of
from tallystick.node.errors import ArchiveError
from tallystick.node.segments import SEGMENT
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import SegmentRow, index_key, index_of, log_key, tile_key
from tallystick.node.store.source import heads_from
from tallystick.protocol.records import Role, Terms, batch_bytes

_decode = msgspec.msgpack.Decoder(SegmentRow).decode


def segment_rows(txn: Txn, log: int) -> Iterator[tuple[int, bytes, SegmentRow | None]]:
    """The rows of a log's segments: first index, value as it is stored, row if it is readable."""
    for key, stored in txn.stored("segments", log_key(log), log_key(log + 1)):
        if len(key) == 12:
            row = decoded(_decode, value_of("segments", key, stored))
            yield index_of(key), stored, row


def dropped_batches(
    txn: Txn, log: int, channel: bytes, role: Role, kept: int
) -> Iterator[tuple[int, bytes]]:
    """The batches of a log before index `kept`, from segments, cut where heads are; nothing of
    them is proven. `ArchiveError` names a file that cannot be read.
    """
    start, stop = index_key(log, 1), index_key(log, kept)
    heads = [index_of(key) for key, _ in txn.stored("heads", start, stop) if len(key) == 12]
    parts = _parts(txn, channel, role)
    first = 0
    for size in [*heads, kept]:
        yield first, batch_bytes(list(islice(parts, size - first)))
        first = size


def _parts(txn: Txn, channel: bytes, role: Role) -> Iterator[bytes]:
    """The bytes of the records of a log's segments, one after the other."""
    archive = txn.segments.archive(txn)
    for begin in count(0, SEGMENT):
        with archive.segment(channel, role, begin) as segment:
            for parts in segment.records():
                yield from parts


def put_back(txn: Txn, log: LogFindings, role: Role) -> None:
    """Have a log that was cut back into what was dropped of it end in the store again: what counts
    of its last segment comes back, and the segment's row goes.
    """
    if not log.kept_from or log.sound > log.kept_from:
        return
    begin = (log.sound - 1) // SEGMENT * SEGMENT
    with txn.segments.archive(txn).segment(log.channel_id, role, begin) as segment:
        parts = chain.from_iterable(segment.records())
        first = begin
        for size in [*heads_from(txn, log.number, begin + 1, log.sound - 1), log.sound]:
            batch = list(islice(parts, size - first))
            for at, piece in cut_at_tiles(first, batch, batch_bytes(batch)):
                txn.put("batches", index_key(log.number, at), piece)
            first = size
    rows = [n for n, _, _ in segment_rows(txn, log.number) if n >= begin]
    for number in rows:
        txn.delete("segments", index_key(log.number, number))


def check_segments(
    txn: Txn, log: LogFindings, terms: Terms, role: Role, tiles: dict[bytes, bytes]
) -> tuple[list[str], list[Damaged], int]:
    """What is wrong with the segments of a log; the rows of those that can be written again, since
    their records are in the store; and how many there are. `tiles` are those of its records.
    """
    from tallystick.node.segments.files import altered, check_segment

    faults: list[str] = []
    again: list[Damaged] = []
    number = 0
    for first, stored, row in segment_rows(txn, log.number):
        number += 1
        key = index_key(log.number, first)
        try:
            if row is None:
                raise ArchiveError(f"the row of the segment from record {first} on is damaged")
            with txn.segments.archive(txn).segment(log.channel_id, role, first) as segment:
                check_segment(segment, terms)
                said = (segment.header.root, segment.header.last_leaf)
            tile = tiles.get(tile_key(log.number, 2, first // SEGMENT))
            if said != (row.root, row.last_leaf) or (not log.torn and tile != row.root):
                raise altered(segment.name, "it is not what the log's tree is of")
        except ArchiveError as error:
            faults.append(error.message)
            if first >= log.kept_from:
                again.append(Damaged("segments", key, stored, error.message))
    return faults, again, number
