"""Logs in memory, audited in pieces as a driver would: for tests beside `replay`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builders import COSIGNED_AT_SECONDS, OTHER, Channel

from tallystick.node.auditing.checks import run_audit
from tallystick.node.auditing.driver import LogPlace
from tallystick.node.auditing.pools import InProcess
from tallystick.node.auditing.sources import KnownHead, Source
from tallystick.protocol.audit import (
    Chunk,
    Key,
    Piece,
    PieceExaminer,
    PieceFound,
    PieceSeen,
    cut,
    look_again,
)
from tallystick.protocol.audit_closings import KeptClosing
from tallystick.protocol.audit_join import JoinedLog, LinePeaks
from tallystick.protocol.checks import Check
from tallystick.protocol.derive import LineKey
from tallystick.protocol.heads import cosign_head, sign_head
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.merkle import chain_leaves
from tallystick.protocol.records import Delta, Role, Terms, batch_bytes, encode_record
from tallystick.protocol.replay import LogSummary
from tallystick.protocol.statement import encode_line
from tallystick.protocol.terms import channel_id
from tallystick.protocol.verdict import encode_verdict

CHUNK_MAX = 7


@dataclass
class Audited:
    """A log that was audited in pieces."""

    joined: JoinedLog
    corrected: dict[tuple[str, str], tuple[int, Delta]]
    peaks: LinePeaks
    summary: LogSummary


def _chunk(parts: list[bytes], lengths: bool) -> Chunk:
    if lengths:
        return Chunk([batch_bytes(parts)], [*map(len, parts)])
    return Chunk([batch_bytes(parts[n : n + 2]) for n in range(0, len(parts), 2)])


def chunks(parts: Sequence[bytes], sizes: random.Random, lengths: bool) -> list[Chunk]:
    """Records' bytes in chunks of random sizes."""
    found = []
    at = 0
    while at < len(parts):
        some = list(parts[at : at + sizes.randint(1, CHUNK_MAX)])
        found.append(_chunk(some, lengths))
        at += len(some)
    return found


def examine(
    terms: Terms, role: Role, parts: Sequence[bytes], every: int, stops: Sequence[int], seed: int
) -> list[tuple[PieceFound, list[Chunk]]]:
    """A log's pieces, each examined with what is true of the leaf before it, and their chunks."""
    sizes = random.Random(seed)
    leaves = [channel_id(terms), *chain_leaves(channel_id(terms), parts)]
    found = []
    for first, count, inside in cut(len(parts), every, stops):
        piece = Piece(role, first, count, leaves[first], inside)
        some = chunks(parts[first : first + count], sizes, bool(seed % 2))
        found.append((PieceExaminer(terms, piece).run(some), some))
    return found


def audit(
    terms: Terms,
    role: Role,
    parts: Sequence[bytes],
    every: int = 5,
    stops: Sequence[int] = (),
    seed: int = 0,
) -> Audited:
    """Audit a log of these records' bytes in pieces of `every`."""
    joined = JoinedLog(terms, role, channel_id(terms), [*stops, len(parts)])
    pieces = examine(terms, role, parts, every, stops, seed)
    for found, _ in pieces:
        joined.take(found)
    keys = {(record.meter, record.id) for _, record in joined.corrections()}
    corrected: dict[Key, tuple[int, Delta]] = {}

    def look(lines: frozenset[LineKey]) -> list[PieceSeen]:
        return [
            look_again(terms, found.piece, some, lambda d: (d.meter, d.id) in keys, lines)
            for found, some in pieces
            if found.unreadable is None
        ]

    for seen in look(frozenset()):
        for index, delta in seen.deltas:
            corrected.setdefault((delta.meter, delta.id), (index, delta))
    peaks = LinePeaks(joined, corrected)
    peaks.learn(look(frozenset(line for lines in peaks.unknown for line in lines)))
    return Audited(joined, corrected, peaks, joined.summary(corrected))


@dataclass(frozen=True)
class MemoryReader:
    """A log in memory, as `tallystick.node.auditing` reads it."""

    parts: tuple[bytes, ...]

    def check(self) -> None:
        """See `Reader`."""

    def segment(self, piece: Piece) -> None:
        """It is in no segment."""

    def chunks(self, piece: Piece) -> Iterator[Chunk]:
        """See `Reader`."""
        for at in range(piece.first, piece.end, 3):
            yield _chunk(list(self.parts[at : min(at + 3, piece.end)]), False)


def source_of(
    channel: Channel, every: int = 4, parts: Sequence[Sequence[bytes]] | None = None
) -> Source:
    """A channel in memory to audit: with the heads that its logs have, and what it closed; its
    records are `parts` if those are given.
    """
    places, heads = [], []
    for side, log in enumerate(channel.logs):
        some = tuple(parts[side]) if parts else tuple(map(encode_record, log.records))
        leaves = [channel.id, *chain_leaves(channel.id, some)]
        firsts = leaves[: len(some) : every]
        places.append(LogPlace(log.role, len(some), every, MemoryReader(some), firsts))
        head = log.head()
        ring = Keyring(channel.terms, log.state.facts.keys)
        key = ring.keys(log.role, "log")[-1].key
        other = ring.keys(OTHER[log.role], "cosigner")[-1].key
        signature = sign_head(head, log.author.signer_of("log", key))
        cosignature = cosign_head(head, log.peer.signer_of("cosigner", other), COSIGNED_AT_SECONDS)
        heads.append([KnownHead(head.size, head.root, signature, cosignature)])
    closings = [
        KeptClosing(
            one.note,
            [encode_line(line) for line in one.lines],
            encode_verdict(one.verdict) if channel.with_verdicts else b"",
        )
        for one in channel.closed
    ]
    return Source(
        "memory",
        channel.id,
        channel.terms,
        (places[0], places[1]),
        (heads[0], heads[1]),
        closings,
        open_lines=channel.derive() if parts is None else None,
    )


def run(source: Source) -> list[Check]:
    """The checks of a source, in this process."""
    return list(run_audit(lambda: source, lambda _: InProcess(), lambda *_: None))


def failing(checks: Sequence[Check]) -> dict[str, str]:
    """What does not hold and was reached: details by names."""
    return {
        check.name: check.detail
        for check in checks
        if not check.ok and not check.detail.startswith("not reached")
    }
