"""Audit, the part that is done in one place: pieces in order make a log again.

Each piece was examined from a leaf hash that was only claimed; here it must be the one that the
piece before it ended in. Subtrees become the tree's roots at the stops, tallies add up, and the
rare records (corrections, closes, keys, matters) go through the same rules as in `replay`, in
order. What a correction corrects is found beforehand, by a second look at the pieces that hold it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

import msgspec

from tallystick.protocol.audit import (
    Fault,
    Key,
    Peaks,
    PieceFound,
    PieceSeen,
    add_changes,
    state_at,
)
from tallystick.protocol.derive import Book, Change, Changes, Folder, LineKey
from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.log import LogFacts, LogState, Rules
from tallystick.protocol.matters import Matters
from tallystick.protocol.merkle import Forest, Frontier
from tallystick.protocol.records import Correction, Delta, Record, Role, Terms, decode_record
from tallystick.protocol.replay import AtStop, LogSummary, Settling, Stops, Tallies, closes_in

Corrected = Mapping[Key, tuple[int, Delta]]  # the first delta of each, and its index


class JoinedLog:
    """A log out of its pieces. `stops` are the sizes at which it is asked for; its own is one."""

    def __init__(self, terms: Terms, role: Role, channel_id: bytes, stops: Iterable[int]) -> None:
        self.role = role
        self.stops = sorted(set(stops))
        self.changes: list[Changes] = [{} for _ in self.stops]  # up to each stop, from the last
        self.forest = Forest()
        self.frontiers: dict[int, Frontier] = {0: Frontier.empty()}  # at each stop
        self.last_leaf = channel_id
        self.rare: list[tuple[int, Record]] = []
        self.deltas = 0
        self.broken: Fault | None = None  # where the pieces do not fit, or are none
        self._terms = terms
        self.folder = Folder(terms)
        self._fault: Fault | None = None  # the first in any piece, or between two
        self._until = 0

    @property
    def size(self) -> int:
        """How many records were joined."""
        return self.forest.end

    def take(self, found: PieceFound) -> None:
        """Take the next piece; nothing is taken behind one that does not fit."""
        piece = found.piece
        if self.broken is not None:
            return
        assert piece.first == self.size, "pieces are taken in order"
        if found.unreadable is not None and found.unreadable.index == piece.first:
            self.broken = found.unreadable  # nothing of it is known
            return
        if piece.previous != self.last_leaf:
            self.broken = Fault(
                piece.first,
                f"record {piece.first}: the leaf hash before it is said to be"
                f" {piece.previous.hex()}; the records before it give {self.last_leaf.hex()}",
            )
            return
        self._judge_pieces(found)
        if found.unreadable is not None:
            self.broken = found.unreadable
            return
        for span in found.spans:
            self.forest.add(span.subtrees)
            place = bisect_left(self.stops, span.end)
            add_changes(self.folder, self.changes[place], span.changes)
            if self.stops[place] == span.end:
                self.frontiers[span.end] = self.forest.frontier()
        self.last_leaf = found.last_leaf
        self.deltas += found.deltas
        self.rare += [(index, decode_record(part)) for index, part in found.rare]

    def _judge_pieces(self, found: PieceFound) -> None:
        if found.begins is not None:
            index, recorded_at = found.begins
            if recorded_at < self._until and (found.fault is None or index < found.fault.index):
                self._note(Fault(index, f"record {index}: recorded_at goes back"))
            self._until = found.until
        if found.fault is not None:
            self._note(found.fault)

    def _note(self, fault: Fault) -> None:
        if self._fault is None:
            self._fault = fault

    def corrections(self) -> list[tuple[int, Correction]]:
        """The log's corrections, in order."""
        return [(index, record) for index, record in self.rare if type(record) is Correction]

    def summary(self, corrected: Corrected) -> LogSummary:
        """What `survey_log` finds, but for ids that are there twice; `corrected` has the deltas
        that the corrections name, those that there are.
        """
        rules, past = Rules(self._terms, self.role), _Past(corrected)
        facts, fault = LogFacts(), self._fault
        for index, record in self.rare:
            if fault is not None and fault.index < index:
                break
            past.index = index
            try:
                facts = rules.check_batch(state_at(index, facts), [record], past)
            except InvalidRecord as error:
                fault = Fault(index, error.message, error.advice)
                break
            # Times were compared with those of the deltas between, by whoever had them.
            facts = msgspec.structs.replace(facts, recorded_at=0)
            past.take_one(index, record)
        facts = msgspec.structs.replace(facts, recorded_at=self._until)
        matters = tuple(past.matters(self.size))
        return LogSummary(
            LogState(self.last_leaf, self.forest.frontier(), facts),
            frozenset((record.meter, record.id) for _, record in self.corrections()),
            closes_in(matters),
            matters,
            None if fault is None else InvalidRecord(fault.message, fault.advice),
        )

    def walk(
        self, corrected: Corrected, peaks: LinePeaks, stops: Stops, at_stop: AtStop
    ) -> Tallies:
        """What `replay_log` gives for the log, which must be valid."""
        book = Book(self.folder, lambda _: None)
        past = _Past(corrected)
        corrections = self.corrections()
        settling, done = Settling(book, stops, at_stop), 0
        settling.reach(0)
        for place, (size, changes) in enumerate(zip(self.stops, self.changes, strict=True)):
            book.apply(changes)
            peaks.reach(place)
            maximal: set[LineKey] = set()
            while done < len(corrections) and corrections[done][0] < size:
                record = corrections[done][1]
                delta, old = past.replace(record)
                key = self.folder.key_of(delta)
                if peaks.replace(key, record):
                    maximal.add(key)
                else:
                    book.correct(key, old, record.quantity, _unused)
                done += 1
            for key in maximal:  # once is enough: only what it is at the stop is asked for
                tally = book.tally(key)
                tally.total, tally.deltas = peaks.highest(key)
            settling.reach(size)
        return book.dirty


def _unused() -> tuple[int, int]:
    raise AssertionError("only `max` lines are looked through")


class _Past(Matters):
    """The matters of a log, and what its corrected deltas are by now."""

    def __init__(self, corrected: Corrected) -> None:
        super().__init__()
        self.index = 0  # of the record that is looked at
        self._corrected = corrected
        self._now: dict[Key, int | None] = {}

    def effective(self, meter: str, id: str) -> tuple[Delta, int | None] | None:
        """See `LogPast`."""
        found = self._corrected.get((meter, id))
        if found is None or found[0] >= self.index:
            return None
        return found[1], self._now.get((meter, id), found[1].quantity)

    def take_one(self, index: int, record: Record) -> None:
        """Note a valid record."""
        if type(record) is Correction:
            self._now[record.meter, record.id] = record.quantity
        else:
            self.note(index, record)

    def replace(self, record: Correction) -> tuple[Delta, int]:
        """Note what a valid correction says; return its delta and the quantity until now."""
        key = (record.meter, record.id)
        delta = self._corrected[key][1]
        old = self._now.get(key, delta.quantity)
        assert old is not None, "a valid correction does not correct what was voided"
        self._now[key] = record.quantity
        return delta, old


class LinePeaks:
    """The highest quantity of `max` lines that have corrections, as the log is walked through.

    Between two stops the highest of a line's other deltas is the line's, unless a corrected one is
    as high; `unknown` are the lines of which the others must be looked at for that, by the place of
    the stop that they are before.
    """

    def __init__(self, joined: JoinedLog, corrected: Corrected) -> None:
        self._folder, self._stops = joined.folder, joined.stops
        self._appear: list[list[Delta]] = [[] for _ in self._stops]
        self._others: list[Peaks] = [{} for _ in self._stops]  # up to each stop, from the last
        self._other: Changes = {}
        self._live: dict[LineKey, dict[str, int]] = {}
        for index, delta in corrected.values():
            line = self._folder.key_of(delta)
            if self._folder.aggregates[line.meter] == "max":
                self._live[line] = {}
                self._appear[bisect_left(self._stops, index + 1)].append(delta)
        self.unknown: list[set[LineKey]] = []
        for changes, deltas, others in zip(joined.changes, self._appear, self._others, strict=True):
            ours: Changes = {}
            for delta in deltas:
                line = self._folder.key_of(delta)
                add_changes(self._folder, ours, {line: Change(delta.quantity, 1)})
            unknown: set[LineKey] = set()
            for line in self._live.keys() & changes.keys():
                all_of, one_of = changes[line], ours.get(line, Change(0, 0))
                left = all_of.deltas - one_of.deltas
                if one_of.deltas and left and one_of.quantity == all_of.quantity:
                    unknown.add(line)
                elif left:
                    others[line] = Change(all_of.quantity, left)
            self.unknown.append(unknown)

    def learn(self, seen: Iterable[PieceSeen]) -> None:
        """Take in what a second look found of the unknown lines."""
        for one in seen:
            for end, peaks in zip((*one.piece.stops, one.piece.end), one.peaks, strict=True):
                place = bisect_left(self._stops, end)
                known = {line: peaks[line] for line in peaks.keys() & self.unknown[place]}
                add_changes(self._folder, self._others[place], known)

    def reach(self, place: int) -> None:
        """Take in what is recorded up to a stop; its corrections follow."""
        add_changes(self._folder, self._other, self._others[place])
        for delta in self._appear[place]:
            self._live[self._folder.key_of(delta)][delta.id] = delta.quantity

    def replace(self, key: LineKey, record: Correction) -> bool:
        """Take in a correction, if it is of a `max` line."""
        line = self._live.get(key)
        if line is None:
            return False
        if record.quantity is None:
            del line[record.id]
        else:
            line[record.id] = record.quantity
        return True

    def highest(self, key: LineKey) -> tuple[int, int]:
        """A line's highest quantity by now, and how many there are."""
        live, other = self._live[key], self._other.get(key)
        quantities = [*live.values(), *([other.quantity] if other else [])]
        return max(quantities, default=0), len(live) + (other.deltas if other else 0)
