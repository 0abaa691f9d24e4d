"""Logs in memory, audited in pieces as a driver would: for tests beside `replay`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

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
from tallystick.protocol.audit_join import JoinedLog, LinePeaks
from tallystick.protocol.derive import Folder, LineKey
from tallystick.protocol.merkle import chain_leaves
from tallystick.protocol.records import Delta, Role, Terms, batch_bytes
from tallystick.protocol.replay import LogSummary
from tallystick.protocol.terms import channel_id

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
    lines = joined.maximal_lines(corrected)
    peaks = LinePeaks(Folder(terms), joined.stops, lines, corrected, look(lines))
    return Audited(joined, corrected, peaks, joined.summary(corrected))
