"""What workers do: examine pieces, compare ids, look at some pieces a second time.

These functions are sent to processes that need nothing but this package. They give back what is
small; the hashes of ids stay where they were made, and only what is in one range of hashes comes
together at one worker.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash

from tallystick.node.auditing.readers import Reader, segment_chunks
from tallystick.node.process import reuse_freed
from tallystick.node.store.keyspace import record_name
from tallystick.protocol.audit import (
    Fault,
    Key,
    Note,
    Piece,
    PieceExaminer,
    PieceFound,
    PieceSeen,
    Span,
    add_changes,
    look_again,
)
from tallystick.protocol.derive import Folder, LineKey
from tallystick.protocol.errors import TallyError
from tallystick.protocol.merkle import Forest
from tallystick.protocol.records import Delta, Record, Terms, decode_record

if TYPE_CHECKING:
    from tallystick.node.segments.files import Segment

Uint64s = npt.NDArray[np.uint64]
_HASHES = 1 << 64


@dataclass(frozen=True, slots=True)
class Task:
    """Pieces in a row of one log, for one worker; `stops` are all of the log. `ranges` is how many
    parts hashes fall into.
    """

    number: int
    terms: bytes
    reader: Reader
    pieces: tuple[Piece, ...]
    stops: tuple[int, ...]
    seed: int
    ranges: int

    def known_terms(self) -> Terms:
        """The terms."""
        terms = decode_record(self.terms)
        assert isinstance(terms, Terms)
        return terms


@dataclass(slots=True)
class Examined:
    """A piece as it was found. If it is a segment, `container` is what is wrong with what that
    says beside its records; empty if nothing is.
    """

    found: PieceFound
    sealed: bool = False
    container: str = ""


@dataclass(slots=True)
class SameIds:
    """What is in one range of hashes: the first task in which a hash is that repeats one before,
    and those hashes; and for each task which of the wanted hashes it has.
    """

    repeated: tuple[int, Uint64s] | None
    located: list[tuple[int, Uint64s]] = field(default_factory=list)


def hash_names(names: Iterable[bytes], seed: int) -> Uint64s:
    """The hashes of `meter NUL id` names."""
    digest = xxhash.xxh3_64_digest
    joined = b"".join([digest(name, seed) for name in names])
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64)


def hash_keys(keys: Iterable[Key], seed: int) -> Uint64s:
    """The hashes of (meter, id) pairs."""
    return hash_names([record_name(*key) for key in keys], seed)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Records come and go by the thousand and make no cycles: looking for some takes a fifth of the
    time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def examine(task: Task) -> tuple[list[Examined], list[Uint64s]]:
    """Examine a task's pieces: what they yield, and the hashes of their ids by range."""
    task.reader.check()
    reuse_freed()  # Dask has its workers give back at once what the next thousand records need
    terms = task.known_terms()
    hashes: list[Uint64s] = []

    def note(first: int, records: Sequence[Record], deltas: Sequence[Delta]) -> None:
        names = [f"{delta.meter}\0{delta.id}".encode() for delta in deltas]
        hashes.append(hash_names(names, task.seed))

    with _without_collection():
        done = [_examine_piece(terms, task.reader, piece, note) for piece in task.pieces]
        _gather(Folder(terms), [span for one in done for span in one.found.spans], task.stops)
    return done, _by_range(hashes, task.ranges)


def _examine_piece(
    terms: Terms,
    reader: Reader,
    piece: Piece,
    note: Note,
) -> Examined:
    try:
        segment = reader.segment(piece)
    except TallyError as error:
        fault = Fault(piece.first, f"record {piece.first}: {error.message}", error.advice)
        return Examined(PieceFound(piece, piece.previous, [], unreadable=fault))
    if segment is None:
        return Examined(PieceExaminer(terms, piece, note).run(reader.chunks(piece)))
    with segment:
        return _examine_segment(terms, segment, piece, note)


def _examine_segment(terms: Terms, segment: Segment, piece: Piece, note: Note) -> Examined:
    from tallystick.node.auditing.columns import check_columns

    header, wrong = segment.header, ""
    if not piece.previous:
        piece = replace(piece, previous=header.previous_leaf)

    def note_rows(first: int, records: Sequence[Record], deltas: Sequence[Delta]) -> None:
        nonlocal wrong
        note(first, records, deltas)
        wrong = wrong or check_columns(segment, terms, first - piece.first, records)

    found = PieceExaminer(terms, piece, note_rows).run(segment_chunks(segment))
    if found.unreadable is None and not wrong:
        forest = Forest(piece.first)
        for span in found.spans:
            forest.add(span.subtrees)
        given = (piece.previous, found.last_leaf, forest.subtrees[0][1])
        if given != (header.previous_leaf, header.last_leaf, header.root):
            wrong = f"{segment.name}: its footer has other hashes than its records"
    return Examined(found, True, wrong)


def _gather(folder: Folder, spans: Sequence[Span], stops: Sequence[int]) -> None:
    """Gather what changes up to each stop in its last span, so that a line is returned once."""
    known = set(stops)
    for span, following in itertools.pairwise(spans):
        if span.end not in known:
            add_changes(folder, following.changes, span.changes)
            span.changes = {}


def _by_range(hashes: Sequence[Uint64s], ranges: int) -> list[Uint64s]:
    """Hashes sorted and split at equal distances."""
    whole = np.sort(np.concatenate([np.empty(0, np.uint64), *hashes]))
    bounds = np.array([_HASHES * n // ranges for n in range(1, ranges)], np.uint64)
    # Copies, so that a range that moved on does not hold the others here.
    return [part.copy() for part in np.split(whole, np.searchsorted(whole, bounds))]


def range_of(hashes: Uint64s, ranges: int) -> list[Uint64s]:
    """Some hashes by the range that they are in."""
    return _by_range([hashes], ranges)


def first_of(pair: tuple[list[Examined], list[Uint64s]]) -> list[Examined]:
    """What is small of what `examine` gives."""
    return pair[0]


def hashes_of(pair: tuple[list[Examined], list[Uint64s]], place: int) -> Uint64s:
    """The hashes in one range of what `examine` gives."""
    return pair[1][place]


def compare_ids(parts: list[Uint64s], wanted: Uint64s, after: int) -> SameIds:
    """Compare one range of all tasks of a log, in their order. Only repetitions in tasks behind
    `after` count: those before were found to be different ids of the same hash.
    """
    found = SameIds(None)
    for task, part in enumerate(parts):
        places = np.searchsorted(part, wanted)
        here = wanted[places < len(part)]
        here = here[part[places[places < len(part)]] == here]
        if len(here):
            found.located.append((task, here))
    whole = np.concatenate([np.empty(0, np.uint64), *parts])
    ordered = np.sort(whole, kind="stable")  # quick for what is sorted in parts
    if not (ordered[1:] == ordered[:-1]).any():
        return found
    order = np.argsort(whole, kind="stable")  # among the same, in the order of the log
    ordered = whole[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    tasks = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order][again]
    behind = tasks > after
    if behind.any():
        first = int(tasks[behind].min())
        found.repeated = first, np.unique(ordered[again][tasks == first])
    return found


def look(task: Task, keys: frozenset[Key], lines: frozenset[LineKey]) -> list[PieceSeen]:
    """Look at a task's pieces again, for deltas with these keys and for these lines."""
    terms = task.known_terms()

    def wanted(delta: Delta) -> bool:
        return (delta.meter, delta.id) in keys

    with _without_collection():
        return [
            look_again(terms, piece, task.reader.chunks(piece), wanted, lines)
            for piece in task.pieces
        ]


def find_hashed(task: Task, hashes: Uint64s) -> list[tuple[int, Delta]]:
    """The deltas of a task whose key has one of these hashes."""
    terms, among = task.known_terms(), set(hashes.tolist())

    def wanted(delta: Delta) -> bool:
        return int(hash_keys([(delta.meter, delta.id)], task.seed)[0]) in among

    return [
        one
        for piece in task.pieces
        for one in look_again(terms, piece, task.reader.chunks(piece), wanted, frozenset()).deltas
    ]
