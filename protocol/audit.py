"""Audit, the part that is done apart: what one piece of a log yields, whoever examines it where.

A *piece* is consecutive records of one log. Whoever examines it needs the terms, the records and
the leaf hash *claimed* to be before them, and nothing of the rest of the log. It gives back what
is small: the last leaf, roots of subtrees, tallies, and the few records whose validity depends on
what was before (`rare`). How pieces make a log again is in `audit_join`.

A *stop* is a size of the log that somebody signed; between stops lie *spans*, and what must be
known at a stop (root, tallies) is given for each span.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from tallystick.protocol.derive import Change, Changes, Folder, LineKey
from tallystick.protocol.errors import FormatError, InvalidRecord, TallyError
from tallystick.protocol.log import LogFacts, LogState, Rules
from tallystick.protocol.matters import Nameable
from tallystick.protocol.merkle import Forest, Frontier, chain_leaves, subtree_roots
from tallystick.protocol.records import (
    BATCH_HEADER_SIZE,
    Delta,
    Record,
    Role,
    Terms,
    batch_count,
    decode_batch,
    decode_record,
    join_batches,
)

Key = tuple[str, str]  # (meter, id)
Peaks = dict[LineKey, Change]  # a `max` line's highest quantity and how many there are


@dataclass(frozen=True, slots=True)
class Piece:
    """Which records: `count` from index `first` on, in the log of `role`. `previous` is claimed to
    be the leaf hash before them; `stops` are those strictly inside.
    """

    role: Role
    first: int
    count: int
    previous: bytes
    stops: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """The size of the log after it."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Chunk:
    """Batches of a piece's records in a row. `lengths` are those of the records of a single batch,
    where the container says them: then one that is not canonical is found among the others.
    """

    batches: Sequence[bytes]
    lengths: Sequence[int] | None = None

    def data(self) -> bytes:
        """One batch of all."""
        return join_batches(sum(map(batch_count, self.batches)), list(self.batches))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a record, in the words of `replay`, and the way out if there is one."""

    index: int
    message: str
    advice: str = ""


@dataclass(slots=True)
class Span:
    """The records up to `end`: the largest aligned subtrees over them, and what they change."""

    end: int
    subtrees: list[tuple[int, bytes]] = field(default_factory=list)
    changes: Changes = field(default_factory=dict)


@dataclass(slots=True)
class PieceFound:
    """What a piece yields. `fault` is the first record that is not valid whatever was before it;
    rare records are with their indexes.

    `begins` is the first record that says when it was recorded, as (index, time), `until` when the
    last one was. What follows the first bytes that are no record (`unreadable`) was not examined.
    """

    piece: Piece
    last_leaf: bytes
    spans: list[Span]
    rare: list[tuple[int, bytes]] = field(default_factory=list)
    begins: tuple[int, int] | None = None
    until: int = 0
    deltas: int = 0
    fault: Fault | None = None
    unreadable: Fault | None = None


@dataclass(slots=True)
class PieceSeen:
    """What a second look at a piece finds: deltas that were asked for, with their indexes, and for
    each span what the others are to the lines that were asked for.
    """

    piece: Piece
    deltas: list[tuple[int, Delta]]
    peaks: list[Peaks]


class NoPast:
    """A `LogPast` for records that need none."""

    def matter(self, index: int) -> Nameable | None:
        """See `MatterPast`."""
        _unneeded()

    def index_of(self, digest: bytes) -> int | None:
        """See `MatterPast`."""
        _unneeded()

    def ended(self, index: int) -> bool:
        """See `MatterPast`."""
        _unneeded()

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        """See `LogPast`."""
        _unneeded()


def _unneeded() -> NoReturn:
    raise AssertionError("the validity of deltas does not depend on what was before")


def state_at(index: int, facts: LogFacts) -> LogState:
    """A log of a size of which only the facts are known: enough to check what may come next."""
    return LogState(b"", Frontier(index, ()), facts)


def cut(records: int, every: int, stops: Iterable[int]) -> list[tuple[int, int, tuple[int, ...]]]:
    """A log of so many records in pieces of `every`, as (first, count, the stops inside)."""
    ordered = sorted(set(stops))
    found = []
    for first in range(0, records, every):
        end = min(first + every, records)
        inside = ordered[bisect_right(ordered, first) : bisect_left(ordered, end)]
        found.append((first, end - first, tuple(inside)))
    return found


# Told an index, the records from there on, and the deltas among them.
Note = Callable[[int, Sequence[Record], Sequence[Delta]], None]


class PieceExaminer:
    """Examines a piece; `note` is told all that is in it, in order."""

    def __init__(self, terms: Terms, piece: Piece, note: Note | None = None) -> None:
        self._rules = Rules(terms, piece.role)
        self._folder = Folder(terms)
        self._note = note
        self._piece = piece
        spans = [Span(end) for end in (*piece.stops, piece.end)]
        self._found = PieceFound(piece, piece.previous, spans)
        self._forest = Forest(piece.first)
        self._span = 0

    def run(self, chunks: Iterable[Chunk]) -> PieceFound:
        """Examine the piece's records, which come in chunks of any size."""
        found, at = self._found, self._piece.first
        try:
            for chunk in chunks:
                records, parts = self._decode(at, chunk)
                left = self._piece.end - at
                self._take(at, records[:left], parts[:left])
                at += len(parts)
                if found.unreadable is not None:
                    return found
        except TallyError as error:  # whoever reads them says what is wrong
            found.unreadable = Fault(at, f"record {at}: {error.message}", error.advice)
            return found
        if at < self._piece.end:
            needed = f"the log ends after {at} records; {self._piece.end} are needed"
            found.unreadable = Fault(at, needed)
        return found

    def _decode(self, first: int, chunk: Chunk) -> tuple[list[Record], list[bytes]]:
        """The chunk's records and their bytes, up to the first that is none, if there is one."""
        with suppress(FormatError):
            records, parts = decode_batch(chunk.data())
            if chunk.lengths is None or [*map(len, parts)] == chunk.lengths:
                return records, parts
        if chunk.lengths is None:
            return self._decode_batches(first, chunk.batches)
        records, parts = [], []
        at = BATCH_HEADER_SIZE
        for index, length in enumerate(chunk.lengths, first):
            part = chunk.batches[0][at : at + length]
            at += length
            try:
                records.append(decode_record(part))
            except FormatError as error:
                self._found.unreadable = Fault(index, f"record {index}: {error.message}")
                break
            parts.append(part)
        return records, parts

    def _decode_batches(
        self, first: int, batches: Sequence[bytes]
    ) -> tuple[list[Record], list[bytes]]:
        records: list[Record] = []
        parts: list[bytes] = []
        for batch in batches:
            index = first + len(records)
            try:
                more = decode_batch(batch)
            except FormatError as error:
                message = f"batch from record {index} on: {error.message}"
                self._found.unreadable = Fault(index, message)
                break
            records += more[0]
            parts += more[1]
        return records, parts

    def _take(self, first: int, records: Sequence[Record], parts: Sequence[bytes]) -> None:
        if not records:
            return
        found, end = self._found, first + len(records)
        leaves = chain_leaves(found.last_leaf, parts)
        found.last_leaf = leaves[-1]
        deltas = self._check(first, records, parts)
        found.deltas += len(deltas)
        if self._note is not None:
            self._note(first, records, deltas)
        at = first
        while at < end:
            span = found.spans[self._span]
            until = min(end, span.end)
            self._forest.add(subtree_roots(at, leaves[at - first : until - first]))
            if found.fault is None:
                changes = self._folder.fold(records[at - first : until - first])
                add_changes(self._folder, span.changes, changes)
            if until == span.end:
                span.subtrees = self._forest.subtrees
                self._forest = Forest(until)
                self._span += 1
            at = until

    def _check(
        self, first: int, records: Sequence[Record], parts: Sequence[bytes]
    ) -> Sequence[Delta]:
        """Check deltas, and times, and set the rest aside; the deltas among the records."""
        if {*map(type, records)} == {Delta}:
            self._check_deltas(first, records)
            return records  # type: ignore[return-value]
        deltas: list[Delta] = []
        run: list[Record] = []
        for index, record in enumerate(records, first):
            if type(record) is Delta:
                deltas.append(record)
                run.append(record)
                continue
            self._check_deltas(index - len(run), run)
            run = []
            self._found.rare.append((index, parts[index - first]))
            if not isinstance(record, Terms):
                self._check_time(index, record.recorded_at)
        self._check_deltas(first + len(records) - len(run), run)
        return deltas

    def _check_time(self, index: int, recorded_at: int) -> None:
        found = self._found
        if found.begins is None:
            found.begins = (index, recorded_at)
        elif recorded_at < found.until and found.fault is None:
            found.fault = Fault(index, f"record {index}: recorded_at goes back")
        found.until = recorded_at

    def _check_deltas(self, first: int, run: Sequence[Record]) -> None:
        found = self._found
        if not run or found.fault is not None:
            return
        if found.begins is None:
            assert isinstance(run[0], Delta)
            found.begins = (first, run[0].recorded_at)
        facts = LogFacts(recorded_at=found.until)
        try:
            facts = self._rules.check_batch(state_at(first, facts), run, NoPast())
        except InvalidRecord:
            self._find_fault(first, run)
        else:
            found.until = facts.recorded_at

    def _find_fault(self, first: int, run: Sequence[Record]) -> None:
        """One by one, because what is told of several at once need not be the first."""
        facts = LogFacts(recorded_at=self._found.until)
        for index, record in enumerate(run, first):
            try:
                facts = self._rules.check_batch(state_at(index, facts), [record], NoPast())
            except InvalidRecord as error:
                self._found.fault = Fault(index, error.message, error.advice)
                return


def add_changes(folder: Folder, into: Changes, more: Changes) -> None:
    """Add changes to changes."""
    for key, change in more.items():
        before = into.get(key)
        if before is None:
            into[key] = change
        elif folder.aggregates[key.meter] == "max":
            highest = max(before.quantity, change.quantity)
            into[key] = Change(highest, before.deltas + change.deltas)
        else:
            into[key] = Change(before.quantity + change.quantity, before.deltas + change.deltas)


def look_again(
    terms: Terms,
    piece: Piece,
    chunks: Iterable[Chunk],
    wanted: Callable[[Delta], bool],
    lines: Set[LineKey],
) -> PieceSeen:
    """Find the deltas of a piece that are wanted, and what all others are to `max` lines."""
    folder = Folder(terms)
    meters = {line.meter for line in lines}
    ends = (*piece.stops, piece.end)
    seen = PieceSeen(piece, [], [{} for _ in ends])
    span = 0
    for index, record in _deltas(piece, chunks):
        while index >= ends[span]:
            span += 1
        if wanted(record):
            seen.deltas.append((index, record))
        elif record.meter in meters:
            line = folder.key_of(record)
            if line in lines:
                add_changes(folder, seen.peaks[span], {line: Change(record.quantity, 1)})
    return seen


def _deltas(piece: Piece, chunks: Iterable[Chunk]) -> Iterator[tuple[int, Delta]]:
    at = piece.first
    for chunk in chunks:
        for index, record in enumerate(decode_batch(chunk.data())[0], at):
            at += 1
            if index < piece.end and type(record) is Delta:
                yield index, record
