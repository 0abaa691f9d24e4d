"""Replay: from the records of both logs to balance lines, with nothing kept from before.

This is the reference that incremental books must agree with, and what verifies a full bundle. It
reads each log twice as a stream of batches: once to examine it (`survey_log`: canonical bytes,
validity, new ids, chain and tree), once to derive from it (`replay`). Memory grows with the number
of lines and corrections and by eight bytes a delta, not with the records themselves.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tallystick.protocol.checkpoint import Checkpoint, parse_checkpoint
from tallystick.protocol.derive import Book, Deriver, Folder, LineKey, Sides, Tally
from tallystick.protocol.disputes import adjustments_at, disputed_lines
from tallystick.protocol.errors import FormatError, InvalidRecord, ProofError
from tallystick.protocol.log import LogState, Rules, append
from tallystick.protocol.matters import Matters, Said
from tallystick.protocol.moves import Moves, find_moves, moves_until, unbilled
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import (
    Close,
    Correction,
    Delta,
    Record,
    Role,
    Terms,
    decode_batch,
)
from tallystick.protocol.statement import Line

# The batches of one log from index 0 on; may be called again and then begins anew.
BatchSource = Callable[[], Iterable[bytes]]
Corrected = frozenset[tuple[str, str]]  # (meter, id)
Tallies = dict[LineKey, Tally]
Stops = Sequence[tuple[int, int]]  # sizes, and until when (µs) the lines that settle there go
AtStop = Callable[[Mapping[LineKey, Tally]], None]
Walk = Callable[[int, Stops, AtStop], Tallies]  # of a side: 0 for the provider's

_CORRECTION_PREFIX = b"\x96\x03"  # how every canonical correction begins: array of 6, kind 3


@dataclass(frozen=True, slots=True)
class FoundClose:
    """A Close record of a log: its index, its checkpoint and the signed note."""

    index: int
    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What one pass over a log found. `fault` is the first thing that makes it invalid, if any;
    then the lists are only of what came before it. `state` holds all records.
    """

    state: LogState
    corrected: Corrected
    closes: tuple[FoundClose, ...]
    matters: tuple[Said, ...]  # closes among them
    fault: InvalidRecord | None


def examine_log(
    terms: Terms, role: Role, channel_id: bytes, batches: BatchSource, size: int
) -> LogSummary:
    """What the first `size` records of a log hold, if all of them are valid.

    Raises `FormatError` for bytes that are not canonical and `InvalidRecord` for a record that
    the terms or its log do not allow; both name the record's index.
    """
    summary = survey_log(terms, role, channel_id, batches, size)
    if summary.fault is not None:
        raise summary.fault
    return summary


def survey_log(
    terms: Terms, role: Role, channel_id: bytes, batches: BatchSource, size: int
) -> LogSummary:
    """Like `examine_log`, but an invalid record is reported in `fault` and hashing goes on."""
    rules = Rules(terms, role)
    past = _Past(_corrected_keys(batches, size))
    ids = _Ids()
    state = LogState.empty(channel_id)
    fault: InvalidRecord | None = None
    for index, records, parts in _segments(batches, size):
        facts = state.facts
        if fault is None:
            try:
                facts = rules.check_batch(state, records, past)
            except InvalidRecord as error:
                fault = error
            else:
                past.take(index, records)
                ids.note(records)
        state = append(state, parts, facts).state
    if fault is None:
        fault = ids.fault(batches, size)
    matters = tuple(past.matters(size))
    return LogSummary(state, past.keys, closes_in(matters), matters, fault)


def replay(
    terms: Terms,
    provider: BatchSource,
    consumer: BatchSource,
    sizes: tuple[int, int],
    closes: Sequence[Checkpoint],
    found: tuple[LogSummary, LogSummary],
) -> list[Line]:
    """All balance lines of open periods at these sizes, late ones included, sorted.

    The logs must have been examined up to `sizes` (provider's, consumer's), and `found` be what
    was found in each; `closes` are the checkpoints signed before, in order (`merge_closes`).
    """
    folder = Folder(terms)
    sides, moves = replay_sides(folder, (provider, consumer), sizes, closes, found)
    return open_lines(terms, folder, sides, moves, sizes, closes, found)


def open_lines(
    terms: Terms,
    folder: Folder,
    sides: tuple[Sides, Sides],
    moves: Moves,
    sizes: tuple[int, int],
    closes: Sequence[Checkpoint],
    found: tuple[LogSummary, LogSummary],
) -> list[Line]:
    """The lines that `replay` gives, of both logs' tallies."""
    matters = (found[0].matters, found[1].matters)
    now = adjustments_at(terms, folder.calendar, matters, sizes, moves)
    if not closes:
        return Deriver(terms, folder).lines(*sides, None, now)
    before = moves_until(moves, len(closes) - 1)
    then = adjustments_at(terms, folder.calendar, matters, closes[-1].sizes, before)
    return Deriver(terms, folder).lines(*sides, closes[-1].end_us, now, then)


def replay_sides(
    folder: Folder,
    logs: tuple[BatchSource, BatchSource],
    sizes: tuple[int, int],
    closes: Sequence[Checkpoint],
    found: tuple[LogSummary, LogSummary],
) -> tuple[tuple[Sides, Sides], Moves]:
    """Both logs' tallies at these sizes, as `replay` has them, and when disputed lines moved."""

    def walk(side: int, stops: Stops, at_stop: AtStop) -> Tallies:
        return replay_log(folder, logs[side], sizes[side], stops, found[side].corrected, at_stop)

    return find_sides(folder, closes, found, walk)


def find_sides(
    folder: Folder,
    closes: Sequence[Checkpoint],
    found: tuple[LogSummary, LogSummary],
    walk: Walk,
) -> tuple[tuple[Sides, Sides], Moves]:
    """Both logs' tallies, and when disputed lines moved; `walk` goes through one log, as
    `replay_log` does.
    """
    disputed = {line for one in found for line in disputed_lines(folder.calendar, one.matters)}
    sides: list[Sides] = []
    left: list[list[dict[LineKey, int]]] = [[], []]  # what of both was not billed, at each stop
    for side in range(2):
        stops = [(close.sizes[side], close.end_us) for close in closes]

        def note(tallies: Sides, at: list[dict[LineKey, int]] = left[side]) -> None:
            at.append(unbilled(disputed, tallies))

        sides.append(walk(side, stops, note))
        note(sides[side])
    return (sides[0], sides[1]), find_moves(zip(*left, strict=True))


def rederive(
    terms: Terms,
    channel_id: bytes,
    provider: BatchSource,
    consumer: BatchSource,
    sizes: tuple[int, int],
) -> list[Line]:
    """Examine both logs up to `sizes`, then replay them: records in, open lines out."""
    a = examine_log(terms, "provider", channel_id, provider, sizes[0])
    b = examine_log(terms, "consumer", channel_id, consumer, sizes[1])
    closes = merge_closes(a, b)
    return replay(terms, provider, consumer, sizes, closes, (a, b))


def merge_closes(provider: LogSummary, consumer: LogSummary) -> list[Checkpoint]:
    """The checkpoints that either log says were signed, in order, each once.

    Within a log each follows the one before, so one log's list must begin with the other's;
    `ProofError` if it does not, if one closes what was closed before, or if it counts records
    that the logs do not have.
    """
    a = [close.checkpoint for close in provider.closes]
    b = [close.checkpoint for close in consumer.closes]
    shorter, longer = sorted((a, b), key=len)
    for left, right in zip(shorter, longer, strict=False):
        if left.digest() != right.digest():
            raise ProofError(
                f"the logs hold two checkpoints that follow the same one: {left.period},"
                f" {left.digest().hex()[:16]}, and {right.period}, {right.digest().hex()[:16]}"
            )
    before = (0, 0)
    closed_until_us = 0
    for close in longer:
        sizes = close.sizes
        if sizes[0] < before[0] or sizes[1] < before[1] or close.end_us <= closed_until_us:
            raise ProofError(f"the checkpoint of {close.period} goes back behind the one before it")
        before, closed_until_us = sizes, close.end_us
    if before[0] > provider.state.size or before[1] > consumer.state.size:
        raise ProofError(
            f"the checkpoint of {longer[-1].period} counts {before[0]} and {before[1]} records,"
            f" but the logs have {provider.state.size} and {consumer.state.size}"
        )
    return longer


def _segments(batches: BatchSource, size: int) -> Iterator[tuple[int, list[Record], list[bytes]]]:
    """Each batch as (index of its first record, records, their bytes), cut off at `size`."""
    index = 0
    if not size:
        return
    for batch in batches():
        try:
            records, parts = decode_batch(batch)
        except FormatError as error:
            raise FormatError(f"batch from record {index} on: {error.message}") from None
        left = size - index
        yield index, records[:left], parts[:left]
        index += min(len(parts), left)
        if index == size:
            return
    raise FormatError(f"the log ends after {index} records; {size} are needed")


def _corrected_keys(batches: BatchSource, size: int) -> Corrected:
    """What the log corrects. Found beforehand, so that only those deltas need to be kept."""
    keys = set()
    left = size
    for batch in batches():
        if left <= 0:
            break
        left -= int.from_bytes(batch[1:5], "big")
        if _CORRECTION_PREFIX in batch:
            try:
                records, _ = decode_batch(batch)
            except FormatError:
                break  # the pass that follows says where
            keys |= {(r.meter, r.id) for r in records if type(r) is Correction}
    return frozenset(keys)


def closes_in(matters: Sequence[Said]) -> tuple[FoundClose, ...]:
    """The closes among what a log says."""
    return tuple(
        FoundClose(index, parse_checkpoint(parse_note(record.checkpoint).text), record.checkpoint)
        for index, record in matters
        if type(record) is Close
    )


class _Past(Matters):
    """The matters of a log, and its deltas that are corrected at some time, with their quantities
    so far.
    """

    def __init__(self, keys: Corrected) -> None:
        super().__init__()
        self.keys = keys
        self._now: dict[tuple[str, str], tuple[Delta, int | None]] = {}

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        return self._now.get((meter, id))

    def take(self, first: int, records: Sequence[Record]) -> None:
        for index, record in enumerate(records, first):
            if type(record) is Delta:
                self.put(record)
            elif type(record) is Correction:
                self.replace(record)
            else:
                self.note(index, record)

    def put(self, record: Delta) -> None:
        """Note a new delta, if it is corrected at some time."""
        if self.keys and (record.meter, record.id) in self.keys:
            self._now[record.meter, record.id] = (record, record.quantity)

    def replace(self, record: Correction) -> tuple[Delta, int]:
        """Note what a valid correction says; return its delta and the quantity until now."""
        delta, old = self._now[record.meter, record.id]
        self._now[record.meter, record.id] = (delta, record.quantity)
        assert old is not None, "a valid correction does not correct what was voided"
        return delta, old


class _Ids:
    """Whether all (meter, id) are new. Eight bytes of a hash are kept for each; only where two
    are alike are the ids themselves looked at, in another pass.
    """

    def __init__(self) -> None:
        self._hashes = bytearray()

    def note(self, records: Iterable[Record]) -> None:
        digest = hashlib.sha256
        self._hashes += b"".join(
            [
                digest(f"{record.meter}\0{record.id}".encode()).digest()[:8]
                for record in records
                if type(record) is Delta
            ]
        )

    def fault(self, batches: BatchSource, size: int) -> InvalidRecord | None:
        hashes = np.frombuffer(self._hashes, dtype="<u8")
        hashes.sort()
        suspects = {int(value) for value in hashes[1:][hashes[1:] == hashes[:-1]]}
        if not suspects:
            return None
        return find_repeated(self._suspected(batches, size, suspects))

    @staticmethod
    def _suspected(
        batches: BatchSource, size: int, suspects: set[int]
    ) -> Iterator[tuple[int, Delta]]:
        for first, records, _ in _segments(batches, size):
            for index, record in enumerate(records, first):
                if type(record) is not Delta:
                    continue
                digest = hashlib.sha256(f"{record.meter}\0{record.id}".encode()).digest()
                if int.from_bytes(digest[:8], "little") in suspects:
                    yield index, record


def find_repeated(deltas: Iterable[tuple[int, Delta]]) -> InvalidRecord | None:
    """The first of these deltas of a log, in order of their indexes, whose meter and id are those
    of one before it.
    """
    seen: dict[tuple[str, str], int] = {}
    for index, delta in deltas:
        key = (delta.meter, delta.id)
        if key in seen:
            return InvalidRecord(
                f"record {index}: {delta.meter}/{delta.id} was recorded before,"
                f" as record {seen[key]}"
            )
        seen[key] = index
    return None


def replay_log(
    folder: Folder,
    batches: BatchSource,
    size: int,
    stops: Stops,
    corrected: Corrected,
    at_stop: AtStop = lambda tallies: None,
) -> Tallies:
    """One log's tallies at `size`; at each stop (size, end µs) the lines before its end settle.

    `at_stop` sees the tallies at each stop that is reached, just before that.
    """
    book = Book(folder, lambda _: None)
    past = _Past(corrected)
    peaks = _Peaks(folder, corrected)
    settling = Settling(book, stops, at_stop)
    settling.reach(0)
    for first, records, _ in _segments(batches, size):
        at, end = first, first + len(records)
        while at < end:
            until = min(end, settling.next_size or end)
            _apply(book, folder, past, peaks, records[at - first : until - first])
            at = until
            settling.reach(at)
    return book.dirty


class Settling:
    """The stops that a log comes to, in order: at each, the lines that end before it settle."""

    def __init__(self, book: Book, stops: Stops, at_stop: AtStop) -> None:
        self._book = book
        self._pending = deque(stops)
        self._at_stop = at_stop

    @property
    def next_size(self) -> int | None:
        """The size at the next stop; None if there is none."""
        return self._pending[0][0] if self._pending else None

    def reach(self, size: int) -> None:
        """The book holds the log up to a size, which no stop is before."""
        while self.next_size == size:
            _, end_us = self._pending.popleft()
            self._at_stop(self._book.dirty)
            for key, tally in self._book.dirty.items():
                if key.charge_start_us < end_us:
                    tally.settle()


def _apply(
    book: Book, folder: Folder, past: _Past, peaks: _Peaks, records: Sequence[Record]
) -> None:
    book.apply(folder.fold(records))
    if not past.keys:
        return
    # The fold above took in all deltas, so a correction must find the later ones noted as well.
    for record in records:
        if type(record) is Delta:
            past.put(record)
            peaks.note(record)
    for record in records:
        if type(record) is Correction:
            delta, old = past.replace(record)
            key = folder.key_of(delta)
            peaks.replace(key, record)
            book.correct(key, old, record.quantity, partial(peaks.highest, key))


class _Peaks:
    """Each quantity of `max` meters that have corrections: their highest may be voided."""

    def __init__(self, folder: Folder, corrected: Corrected) -> None:
        self._folder = folder
        self._meters = {meter for meter, _ in corrected if folder.aggregates.get(meter) == "max"}
        self._lines: dict[LineKey, dict[str, int]] = {}

    def note(self, delta: Delta) -> None:
        if delta.meter in self._meters:
            line = self._lines.setdefault(self._folder.key_of(delta), {})
            line[delta.id] = delta.quantity

    def replace(self, key: LineKey, record: Correction) -> None:
        line = self._lines.get(key)
        if line is None:
            return
        if record.quantity is None:
            del line[record.id]
        else:
            line[record.id] = record.quantity

    def highest(self, key: LineKey) -> tuple[int, int]:
        line = self._lines[key]
        return max(line.values(), default=0), len(line)
