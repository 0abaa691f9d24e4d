"""What can be audited: a channel of a home, or of an archive alone.

A `Source` says where the records are and what was signed about them. An archive has no records
above its last whole segment: up to there they are proven by the newest checkpoint, whose `.edges`
lead from the last segment's end to the heads that both signed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tallystick.node.auditing.driver import LogPlace
from tallystick.node.auditing.readers import ArchiveReader, StoreReader
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.node.segments import SEGMENT
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import tile_key
from tallystick.node.store.source import kept_from
from tallystick.node.store.tiles import TILE
from tallystick.protocol.audit_closings import KeptClosing
from tallystick.protocol.errors import InputError, ProofError, TallyError, UnknownName
from tallystick.protocol.merkle import HASH_SIZE
from tallystick.protocol.records import ROLES, Terms
from tallystick.protocol.statement import Line

if TYPE_CHECKING:
    from tallystick.node.segments.archive import Archive, Edges

PIECES_A_WORKER = 16  # or more, so that the last ones are a small part of its work
PIECE_RECORDS_MIN = 8192  # a multiple of a tile, before which the store keeps the leaf hash


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head of a log that somebody keeps; signatures are empty where there is none."""

    size: int
    root: bytes
    signature: bytes
    cosignature: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """What to audit, the provider's log first. `edges` are an archive's, one for each closing;
    `open_lines` are a home's balance lines of open periods.
    """

    said: str
    channel: bytes
    terms: Terms
    places: tuple[LogPlace, LogPlace]
    heads: tuple[Sequence[KnownHead], Sequence[KnownHead]]
    closings: Sequence[KeptClosing]
    edges: Sequence[Edges] | None = None
    open_lines: Sequence[Line] | None = None

    @property
    def records(self) -> int:
        """How many there are in both logs."""
        return sum(place.size for place in self.places)


def of_home(books: Books, key: bytes, workers: int) -> Source:
    """A channel of a home, as the store is now, for so many workers."""
    channel, closer = books.channels[key]
    heads = tuple(_heads(channel, log) for log in (channel.provider_log, channel.consumer_log))
    places = tuple(
        _place(channel, log, workers) for log in (channel.provider_log, channel.consumer_log)
    )
    return Source(
        f"the home of {books.identity.name}",
        key,
        channel.terms,
        (places[0], places[1]),
        (heads[0], heads[1]),
        [KeptClosing(row.note, row.lines, row.verdict) for row in closer.rows],
        open_lines=closer.open_lines(),
    )


def _heads(channel: Channel, log: ChannelLog) -> list[KnownHead]:
    """The newest co-signed head of a log, the newest signed one, and the newest of all."""
    sizes = {log.cosigned_size, log.signed_size, log.durable_size} - {0}
    found = []
    with channel.store.read() as txn:
        for size in sorted(sizes):
            row = log.head_row(txn, size)
            if row is not None:
                found.append(KnownHead(size, row.root, row.signature, row.cosignature))
    return found


def _place(channel: Channel, log: ChannelLog, workers: int) -> LogPlace:
    size = log.durable_size
    fair = size // (max(workers, 1) * PIECES_A_WORKER) // PIECE_RECORDS_MIN * PIECE_RECORDS_MIN
    every = min(max(fair, PIECE_RECORDS_MIN), SEGMENT)
    reader = StoreReader(str(channel.store.path), log.number)
    with channel.store.read() as txn:
        kept = kept_from(txn, log.number)
        if kept:
            every = SEGMENT
            dropped = ArchiveReader(txn.segments.archive(txn).location, channel.id, log.role)
            reader = replace(reader, kept=kept, dropped=dropped)
        leaves = [
            _leaf(txn, log.number, first) if first else channel.id
            for first in range(0, size, every)
        ]
    return LogPlace(log.role, size, every, reader, leaves)


def _leaf(txn: Txn, log: int, first: int) -> bytes:
    """The leaf hash before a record at which a tile begins; zeros if the tile is not there."""
    row = txn.get("tiles", tile_key(log, 1, first // TILE - 1))
    return row[HASH_SIZE:] if row else bytes(HASH_SIZE)


def of_archive(archive: Archive, channel: bytes) -> Source:
    """A channel of an archive."""
    from tallystick.node.segments.archive import segment_path

    kept = archive.checkpoints(channel)
    for place, one in enumerate(kept):
        if one.sequence != place:
            raise ProofError(
                f"the archive has the checkpoint {one.name}, but {place} before it",
                "Put the missing one back from a copy",
            )
    closings = [KeptClosing(one.note, one.lines, one.verdict, one.keys) for one in kept]
    heads = closings[-1].checkpoint().heads if closings else None
    places = []
    for side, role in enumerate(ROLES):
        there = archive.segments(channel, role)
        due = heads[side].size // SEGMENT * SEGMENT if heads else 0
        odd = next((first for first in there if first % SEGMENT), None)
        if odd is not None:
            raise ProofError(
                f"{archive.path(segment_path(channel, role, odd))} is at no segment's place"
            )
        size = max(due, there[-1] + SEGMENT if there else 0)
        known = set(there)
        missing = next(first for first in itertools.count(0, SEGMENT) if first not in known)
        # Up to a missing one, so that it is named; what is behind it cannot be proven anyway.
        size = min(size, missing + SEGMENT)
        reader = ArchiveReader(archive.location, channel, role)
        # What a segment claims to be before it is in its own footer.
        places.append(LogPlace(role, size, SEGMENT, reader, [b""] * (size // SEGMENT)))
    return Source(
        f"the archive {archive.location}",
        channel,
        archive.terms(channel),
        (places[0], places[1]),
        ((), ()),
        closings,
        [one.edges for one in kept],
    )


def select_channel(archive: Archive, selector: str | None) -> bytes:
    """The channel of a selector: a prefix of its id, a party's name, or the only one."""
    there = archive.channels()
    begun = (selector or "").lower()
    named = [channel for channel in there if begun and channel.hex().startswith(begun)]
    if selector and not named:
        named = [channel for channel in there if selector in _parties(archive, channel)]
    found = named if selector else there
    if len(found) == 1:
        return found[0]
    if not there:
        raise UnknownName(f"there is no channel in {archive.location}", "Is it an archive?")
    if not found:
        raise UnknownName(f"no channel matches {selector!r}", f"There are: {_listed(there)}")
    raise InputError(
        f"several channels are in {archive.location}: {_listed(found)}",
        "Choose one with --channel and the beginning of its id, or a party's name",
    )


def _parties(archive: Archive, channel: bytes) -> tuple[str, ...]:
    try:
        terms = archive.terms(channel)
    except TallyError:
        return ()
    return terms.provider.name, terms.consumer.name


def _listed(channels: Sequence[bytes]) -> str:
    return ", ".join(channel.hex()[:8] for channel in channels)
