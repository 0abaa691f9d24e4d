"""The audit's course: pieces handed out, what comes back joined, second looks where they are due.

Each step is done once and waits for those before it, so that checks can ask for what they need.
The coordinator holds the balance lines, the rare records and the corrections, and no others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tallystick.node.auditing import work
from tallystick.node.auditing.pools import Handle, Pool
from tallystick.node.auditing.readers import Reader
from tallystick.node.auditing.work import Examined, SameIds, Task, Uint64s
from tallystick.protocol.audit import Key, Piece, PieceSeen, cut
from tallystick.protocol.audit_join import Corrected, JoinedLog, LinePeaks
from tallystick.protocol.derive import LineKey
from tallystick.protocol.errors import InvalidRecord
from tallystick.protocol.records import Delta, Role, Terms, encode_record
from tallystick.protocol.replay import LogSummary, find_repeated
from tallystick.protocol.terms import channel_id

TASK_PIECES_MAX = 64
SHARE = 2  # a task is this part of what a worker would have of all that is left
RANGE_HASHES = 1 << 23  # hashes that come together at a worker: 64 MiB, and as much again twice
RANGES_MAX = 256
RANGES_FEW = 4  # as many for few workers, so that each has one; every task has as many results

# What is done, how much of how much.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class LogPlace:
    """A log to audit: its first `size` records, in pieces of `every`; `leaves` are claimed to be
    the leaf hashes before the pieces.
    """

    role: Role
    size: int
    every: int
    reader: Reader
    leaves: Sequence[bytes]


class LogAudit:
    """The audit of one log. `stops` are the sizes at which it is asked for."""

    def __init__(
        self, terms: Terms, place: LogPlace, stops: Sequence[int], pool: Pool, tell: Tell
    ) -> None:
        self._terms, self._place, self._pool, self._tell = terms, place, pool, tell
        self.role = place.role
        self.joined = JoinedLog(terms, place.role, channel_id(terms), [*stops, place.size])
        self._folder = self.joined.folder
        self.segments = 0
        self.containers: list[str] = []  # what is wrong with segments, but for their records
        self.tasks = self._plan(stops)
        self._hashes: list[list[Handle]] = []  # of each range, by task
        self._maximal: list[set[str]] = [set() for _ in self.tasks]  # meters with such lines

    def _plan(self, stops: Sequence[int]) -> list[Task]:
        place = self._place
        pieces = [
            Piece(place.role, first, count, leaf, inside)
            for leaf, (first, count, inside) in zip(
                place.leaves, cut(place.size, place.every, stops), strict=True
            )
        ]
        few = min(self._pool.workers, RANGES_FEW, len(pieces))
        ranges = min(max(-(-place.size // RANGE_HASHES), few), RANGES_MAX)
        seed = secrets.randbits(64)
        record = encode_record(self._terms)
        tasks = []
        for n, each in enumerate(shares(len(pieces), self._pool.workers)):
            some, pieces = tuple(pieces[:each]), pieces[each:]
            tasks.append(Task(n, record, place.reader, some, tuple(stops), seed, ranges))
        return tasks

    # First look

    def start(self) -> list[Handle]:
        """Hand out all tasks; their results, in whatever order, are for `take`."""
        ranges = self.tasks[0].ranges if self.tasks else 0
        both = self._pool.submit(work.examine, self.tasks)
        small = self._pool.submit(work.first_of, both, first=True)
        for place in range(ranges):
            places = [place] * len(both)
            self._hashes.append(self._pool.submit(work.hashes_of, both, places, first=True))
        return small

    def take(self, task: int, examined: Sequence[Examined]) -> None:
        """Take what the next task found."""
        for one in examined:
            self.segments += one.sealed
            if one.container:
                self.containers.append(one.container)
            self.joined.take(one.found)
            for span in one.found.spans:
                self._maximal[task] |= {
                    key.meter for key in span.changes if self._folder.aggregates[key.meter] == "max"
                }

    # Ids

    @cached_property
    def _same_ids(self) -> list[SameIds]:
        return self._compare(self._wanted, -1)

    def _compare(self, hashes: Uint64s, after: int) -> list[SameIds]:
        """What each range of hashes has: which tasks hold these, and what repeats behind a task."""
        if not self.tasks:
            return []
        wanted = work.range_of(hashes, self.tasks[0].ranges)
        handles = self._pool.submit(work.compare_ids, self._hashes, wanted, [after] * len(wanted))
        return list(self._in_order("ids", handles))

    @cached_property
    def _keys(self) -> list[Key]:
        """What corrections correct."""
        return sorted({(record.meter, record.id) for _, record in self.joined.corrections()})

    @cached_property
    def _wanted(self) -> Uint64s:
        if not self._keys:
            return np.empty(0, np.uint64)
        return work.hash_keys(self._keys, self.tasks[0].seed)

    @cached_property
    def repeated(self) -> InvalidRecord | None:
        """The first record whose meter and id were recorded before."""
        found = self._same_ids
        while True:
            first = min((one.repeated[0] for one in found if one.repeated), default=None)
            if first is None:
                return None
            suspects = np.concatenate(
                [one.repeated[1] for one in found if one.repeated and one.repeated[0] == first]
            )
            located = self._compare(suspects, len(self.tasks))
            tasks = {task for one in located for task, _ in one.located if task <= first}
            some = [self.tasks[n] for n in sorted(tasks)]
            handles = self._pool.submit(work.find_hashed, some, [suspects] * len(some))
            deltas = [one for some in self._in_order("ids", handles) for one in some]
            fault = find_repeated(deltas)
            if fault is not None:
                return fault
            found = self._compare(suspects, first)  # they were other ids of the same hash

    # Corrections

    @cached_property
    def _keys_of_tasks(self) -> dict[int, frozenset[Key]]:
        """The corrected keys that a task may hold, for each that may hold any."""
        by_hash: dict[int, list[Key]] = {}
        for value, key in zip(self._wanted.tolist(), self._keys, strict=True):
            by_hash.setdefault(value, []).append(key)
        found: dict[int, set[Key]] = {}
        for same in self._same_ids:
            for task, hashes in same.located:
                keys = found.setdefault(task, set())
                for value in hashes.tolist():
                    keys.update(by_hash[value])
        return {task: frozenset(keys) for task, keys in found.items()}

    @cached_property
    def corrected(self) -> Corrected:
        """The deltas that corrections name, those that there are."""
        found: dict[Key, tuple[int, Delta]] = {}
        for seen in self._look(sorted(self._keys_of_tasks), frozenset()):
            for index, delta in seen.deltas:
                found.setdefault((delta.meter, delta.id), (index, delta))
        return found

    @cached_property
    def peaks(self) -> LinePeaks:
        """The highest quantities of those lines that corrections may lower."""
        peaks = LinePeaks(self.joined, self.corrected)
        stops = [0, *self.joined.stops]
        places = [place for place, lines in enumerate(peaks.unknown) if lines]
        lines = frozenset(line for place in places for line in peaks.unknown[place])
        meters = {line.meter for line in lines}
        tasks = [
            task.number
            for task in self.tasks
            if self._maximal[task.number] & meters
            and any(
                task.pieces[0].first < stops[place + 1] and stops[place] < task.pieces[-1].end
                for place in places
            )
        ]
        peaks.learn(self._look(tasks, lines))
        return peaks

    def _look(self, tasks: Sequence[int], lines: frozenset[LineKey]) -> Iterator[PieceSeen]:
        keys = [self._keys_of_tasks.get(n, frozenset()) for n in tasks]
        some = [self.tasks[n] for n in tasks]
        handles = self._pool.submit(work.look, some, keys, [lines] * len(some))
        for seen in self._in_order("corrections", handles):
            yield from seen

    @cached_property
    def summary(self) -> LogSummary:
        """What `survey_log` finds, but for ids that are there twice."""
        return self.joined.summary(self.corrected)

    def _in_order(self, step: str, handles: Sequence[Handle]) -> Iterator[Any]:
        return in_order(self._pool, handles, lambda done: self._tell(step, done, len(handles)))


def shares(pieces: int, workers: int) -> Iterator[int]:
    """How many pieces each task has: few tasks, as each costs something, and the last ones small,
    so that the workers end together.
    """
    while pieces:
        each = min(-(-pieces // (SHARE * workers)), TASK_PIECES_MAX)
        yield each
        pieces -= each


def in_order(pool: Pool, handles: Sequence[Handle], tell: Callable[[int], None]) -> Iterator[Any]:
    """The results in the order of their handles, each as soon as those before it are there."""
    early: dict[int, Any] = {}
    place = 0
    for done, (at, result) in enumerate(pool.results(handles), 1):
        tell(done)
        early[at] = result
        while place in early:
            yield early.pop(place)
            place += 1


def examine_both(pool: Pool, logs: tuple[LogAudit, LogAudit], tell: Tell) -> None:
    """The first look at both logs, at the same time."""
    owners: list[tuple[LogAudit, int]] = []
    handles: list[Handle] = []
    for log in logs:
        small = log.start()
        owners += [(log, n) for n in range(len(small))]
        handles += small
    found = in_order(pool, handles, lambda done: tell("records", done, len(handles)))
    for (log, task), examined in zip(owners, found, strict=True):
        log.take(task, examined)
