"""Sealing: from the logs of a channel to segments, and dropping from the store what is in them.

A segment is written, read back and compared with the tree that the store keeps before a row says
that it is there; it is read back and compared again before its records leave the store. The order
is such that a crash at any point leaves the records in the store, or in a segment that was proven,
or in both. Everything here waits for files, so it runs in a thread; what changes the store goes
through `Desk`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tallystick.node.errors import ArchiveError
from tallystick.node.segments import SEGMENT
from tallystick.node.segments.archive import Archive, ArchivedCheckpoint, Edges, segment_path
from tallystick.node.segments.files import altered, check_segment, write_segment
from tallystick.node.segments.reading import ARCHIVE_KEY, decode_segment
from tallystick.node.store.disk import Store, Txn
from tallystick.node.store.keyspace import (
    CheckpointRow,
    SegmentRow,
    encode_row,
    index_key,
    index_of,
    log_key,
    tile_key,
)
from tallystick.node.store.source import kept_from, stored_parts
from tallystick.node.store.tiles import TILE
from tallystick.node.tree import LogTree
from tallystick.protocol.bundle import PlacedRotation, encode_keys
from tallystick.protocol.merkle import HASH_SIZE
from tallystick.protocol.records import Role, Terms
from tallystick.protocol.terms import channel_id


@dataclass(frozen=True, slots=True)
class LogWork:
    """A log of which full segments below `seal` are to be sealed, and those below `drop` are to
    leave the store. `rotations` are the indexes of its rotation records.
    """

    number: int
    role: Role
    rotations: Sequence[int]
    seal: int
    drop: int


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done of a channel: its logs, and its checkpoints in order."""

    terms: Terms
    logs: tuple[LogWork, ...]
    checkpoints: Sequence[CheckpointRow]


@dataclass(slots=True)
class Done:
    """What was done of a channel: names of files, by log how many records left the store, and what
    stands in the way of the rest.
    """

    written: list[str] = field(default_factory=list)
    dropped: dict[int, int] = field(default_factory=dict)
    checkpoints: int = 0
    faults: list[ArchiveError] = field(default_factory=list)


class Desk(Protocol):
    """Who changes the store for a thread that seals; both return once it is durable."""

    def commit(self, job: Callable[[Txn], None]) -> None:
        """Run a job."""

    def drop(self, log: int, keys: Sequence[bytes], size: int, below: int) -> None:
        """Delete these batches of a log, of `size` bytes together; all records before `below` are
        then in segments alone.
        """


def work_of(
    terms: Terms,
    logs: Sequence[tuple[int, Role, Sequence[int]]],
    rows: Sequence[CheckpointRow],
    keep: int | None,
) -> Work:
    """What is to be done by the policy: what closed periods count is sealed, and what all but the
    newest `keep` of them count is dropped; nothing if that is None.
    """

    def size(row: CheckpointRow | None, role: Role) -> int:
        if row is None:
            return 0
        return row.size_of(role) // SEGMENT * SEGMENT

    newest = rows[-1] if rows else None
    old = rows[-1 - keep] if keep is not None and len(rows) > keep else None
    return Work(
        terms,
        tuple(
            LogWork(number, role, rotations, size(newest, role), size(old, role))
            for number, role, rotations in logs
        ),
        rows,
    )


def seal(store: Store, archive: Archive, work: Work, desk: Desk) -> Done:
    """Do the work, as far as the archive lets it."""
    done = Done()
    try:
        if any(log.seal for log in work.logs):
            archive.put_terms(work.terms)
        for log in work.logs:
            _seal_log(store, archive, work.terms, log, desk, done)
        if any(log.seal for log in work.logs):
            _put_checkpoints(store, archive, work, done)
    except ArchiveError as error:
        done.faults.append(error)
    return done


def _seal_log(
    store: Store, archive: Archive, terms: Terms, log: LogWork, desk: Desk, done: Done
) -> None:
    channel = channel_id(terms)
    there = set(archive.segments(channel, log.role)) if log.seal else set()
    for first in range(0, log.seal, SEGMENT):
        with store.read() as txn:
            known = txn.get("segments", index_key(log.number, first)) is not None
            in_store = kept_from(txn, log.number) <= first
            drop = _droppable(txn, log.number, first + SEGMENT) if first < log.drop else None
        if known and first in there and drop is None:
            continue
        try:
            if first in there:
                try:
                    row = prove(store, archive, terms, log, first)
                except ArchiveError:
                    if not in_store:
                        raise
                    row = _write(store, archive, terms, log, first, done)
            elif in_store:
                row = _write(store, archive, terms, log, first, done)
            else:
                archive.segment(channel, log.role, first).close()  # says that it is missing
                continue
        except ArchiveError as error:
            done.faults.append(error)
            if drop is not None:
                return  # what is dropped is always a log's beginning
            continue
        if not known:
            desk.commit(_noting(archive.location, log.number, first, row))
        if drop is not None:
            desk.drop(log.number, drop.keys, drop.size, drop.after)
            done.dropped[log.number] = done.dropped.get(log.number, 0) + drop.after - drop.before


def _write(
    store: Store, archive: Archive, terms: Terms, log: LogWork, first: int, done: Done
) -> SegmentRow:
    """Write a segment from the store, and read it back."""
    path = segment_path(channel_id(terms), log.role, first)
    with store.read() as txn, archive.writing(path) as file:
        previous = _previous_leaf(txn, channel_id(terms), log.number, first)
        parts = stored_parts(txn, log.number, first, first + SEGMENT)
        write_segment(file, terms, log.role, first, previous, parts)
    row = prove(store, archive, terms, log, first)
    done.written.append(archive.path(path))
    return row


def prove(store: Store, archive: Archive, terms: Terms, log: LogWork, first: int) -> SegmentRow:
    """Read a segment back and compare it with the tree of the store; `ArchiveError` if it is not
    what the tree is of.
    """
    with archive.segment(channel_id(terms), log.role, first) as segment:
        check_segment(segment, terms)
        header = segment.header
    with store.read() as txn:
        root = txn.get("tiles", tile_key(log.number, 2, first // SEGMENT))
        tile = txn.get("tiles", tile_key(log.number, 1, (first + SEGMENT) // TILE - 1))
        previous = _previous_leaf(txn, channel_id(terms), log.number, first)
    found = (header.previous_leaf, header.root, header.last_leaf)
    if root is None or tile is None or found != (previous, root, tile[HASH_SIZE:]):
        raise altered(segment.name, "its records are not those of the log")
    return SegmentRow(header.channel, header.role, header.root, header.last_leaf)


def _previous_leaf(txn: Txn, channel: bytes, log: int, first: int) -> bytes:
    if not first:
        return channel
    tile = txn.get("tiles", tile_key(log, 1, first // TILE - 1))
    return tile[HASH_SIZE:] if tile is not None else b""


def _noting(location: str, log: int, first: int, row: SegmentRow) -> Callable[[Txn], None]:
    def job(txn: Txn) -> None:
        txn.put("segments", index_key(log, first), encode_row(row))
        txn.put("meta", ARCHIVE_KEY, location.encode())

    return job


@dataclass(frozen=True, slots=True)
class _Drop:
    """Batches that may leave the store: their keys and bytes, and from which record on the log is
    in the store before and after.
    """

    keys: list[bytes]
    size: int
    before: int
    after: int


def _droppable(txn: Txn, log: int, below: int) -> _Drop | None:
    """The batches that end at `below` or before. One that reaches beyond stays, and so does a
    log's newest: where it ends, no other one says.
    """
    rows = txn.scan("batches", log_key(log), log_key(log + 1))
    keys: list[bytes] = []
    size = 0
    before = last = None
    for key, value in rows:
        if index_of(key) > below:
            break
        if last is not None:
            keys.append(last[0])
            size += last[1]
        last = key, len(value)
        before = index_of(key) if before is None else before
    if not keys or last is None or before is None:
        return None
    return _Drop(keys, size, before, index_of(last[0]))


def segment_rows(txn: Txn, log: int) -> list[tuple[int, SegmentRow]]:
    """The segments of a log that the store knows: first index and row, in order."""
    scan = txn.scan("segments", log_key(log), log_key(log + 1))
    return [(index_of(key), decode_segment(value)) for key, value in scan]


# Checkpoints


def _put_checkpoints(store: Store, archive: Archive, work: Work, done: Done) -> None:
    channel = channel_id(work.terms)
    there = archive.checkpoint_names(channel)
    for sequence, row in enumerate(work.checkpoints):
        label = row.period.replace(":", "")
        if f"{sequence:06}-{label}" not in there:
            edges = _edges(store, channel, work.logs, row)
            keys = _keys(store, work, row)
            found = ArchivedCheckpoint(
                sequence, label, row.note, row.lines, edges, row.verdict, keys
            )
            archive.put_checkpoint(channel, found)
            done.checkpoints += 1


def _keys(store: Store, work: Work, row: CheckpointRow) -> bytes:
    """The rotations among a checkpoint's records that are in no whole segment below its heads."""
    found: dict[Role, list[PlacedRotation]] = {}
    with store.read() as txn:
        for log in work.logs:
            size = row.size_of(log.role)
            found[log.role] = [
                (index, part)
                for index in log.rotations
                if size // SEGMENT * SEGMENT <= index < size
                for part in stored_parts(txn, log.number, index, index + 1)
            ]
    rotations = found["provider"], found["consumer"]
    return encode_keys(rotations) if any(rotations) else b""


def _edges(store: Store, channel: bytes, logs: Sequence[LogWork], row: CheckpointRow) -> Edges:
    """The frontiers of a checkpoint's heads, without the subtrees of whole segments."""
    found: dict[Role, tuple[bytes, ...]] = {}
    with store.read() as txn:
        for log in logs:
            size = row.size_of(log.role)
            peaks = LogTree(txn, log.number, channel, size).frontier().peaks
            found[log.role] = peaks[len(peaks) - (size % SEGMENT).bit_count() :]
    return found["provider"], found["consumer"]
