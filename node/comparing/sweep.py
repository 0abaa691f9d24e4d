"""Pairing lane by lane what has equal quantities: in one sorted stream, run by run.

A *run* is a stretch of events of a lane and quantity with no gap wider than the window; no pair can
leave it. In a run, what is equal to the microsecond pairs first. What remains falls into shorter
runs. One in which both sides have equally many, and the first with the first and so on are within
the window, is paired so: that leaves nothing over, and no other way is closer in time. For all
others `runs` decides. Memory holds a batch and the longest run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow

from tallystick.node.comparing.runs import pair_run
from tallystick.node.comparing.tables import Tables

BATCH_ROWS = 250_000
PAIRS = pyarrow.schema(
    [
        ("ours", pyarrow.int64()),
        ("theirs", pyarrow.int64()),
        ("step", pyarrow.string()),
        ("confidence", pyarrow.string()),
    ]
)

Array = Any  # numpy's arrays, of one dimension throughout


class Stretch(NamedTuple):
    """Events in a row, column by column, sorted; `key` is that of their lane and quantity."""

    lane: Array
    quantity: Array
    instant: Array
    side: Array
    event: Array
    reach: Array

    def at(self, where: Array) -> Stretch:
        """Those at an index, a mask or a slice."""
        return Stretch(*(column[where] for column in self))


def pair_by_time(tables: Tables) -> None:
    """Add to `pairs` what is equal but for its time, within the window."""
    for stretch in _whole_runs(tables):
        pairs = [*_pair_stretch(stretch)]
        for ours, theirs, step, likely in pairs:
            names = np.where(likely, "likely", "possible")
            tables.insert("pairs", PAIRS, [ours, theirs, [step] * len(ours), names.tolist()])


def _whole_runs(tables: Tables) -> Iterator[Stretch]:
    """The events of `rest`, some whole runs at a time."""
    with tables.db.cursor() as cursor:
        stream = cursor.sql(
            "SELECT lane, quantity, instant, side, event, reach FROM rest JOIN lanes USING (lane)"
            " ORDER BY lane, quantity, instant, side, tie, event"
        )
        waiting: list[Stretch] = []
        for batch in stream.to_arrow_reader(BATCH_ROWS):
            stretch = Stretch(*(column.to_numpy() for column in batch.columns))
            if not len(stretch.lane):
                continue
            before = [*waiting[-1:], stretch]
            last = _joined([s.at(slice(-1, None)) for s in before[:-1]] + [stretch])
            starts = np.flatnonzero(_starts(last))[1:] - (len(before) - 1)
            if len(starts):
                yield _joined([*waiting, stretch.at(slice(None, starts[-1]))])
                waiting = [stretch.at(slice(starts[-1], None))]
            else:
                waiting.append(stretch)
        if waiting:
            yield _joined(waiting)


def _joined(parts: list[Stretch]) -> Stretch:
    return Stretch(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _starts(s: Stretch) -> Array:
    """Which events begin a run."""
    begins = np.ones(len(s.lane), dtype=bool)
    begins[1:] = (
        (s.lane[1:] != s.lane[:-1])
        | (s.quantity[1:] != s.quantity[:-1])
        | (s.instant[1:] - s.instant[:-1] > s.reach[1:])
    )
    return begins


def _pair_stretch(s: Stretch) -> Iterator[tuple[Array, Array, str, Array]]:
    """Pairs of whole runs: our events, their events, the step, and which of them are likely."""
    equal = _starts(s)
    equal[1:] |= s.instant[1:] != s.instant[:-1]
    group = np.cumsum(equal) - 1
    ours, theirs = _counts(group, s.side)
    rank = np.arange(len(group)) - np.flatnonzero(equal)[group]
    rank -= np.where(s.side == 1, ours[group], 0)
    taken = rank < np.minimum(ours, theirs)[group]
    mine = taken & (s.side == 0)
    yield s.event[mine], s.event[taken & (s.side == 1)], "equal", (ours == theirs)[group][mine]
    yield from _pair_runs(s.at(~taken))


def _counts(group: Array, side: Array) -> tuple[Array, Array]:
    size = int(group[-1]) + 1 if len(group) else 0
    theirs = np.bincount(group, weights=side, minlength=size).astype(np.int64)
    return np.bincount(group, minlength=size) - theirs, theirs


def _pair_runs(s: Stretch) -> Iterator[tuple[Array, Array, str, Array]]:
    run = np.cumsum(_starts(s)) - 1
    ours, theirs = _counts(run, s.side)
    even = (ours == theirs)[run]
    mine, others = s.at(even & (s.side == 0)), s.at(even & (s.side == 1))
    far = np.abs(mine.instant - others.instant) > mine.reach
    crooked = np.zeros(len(ours), dtype=bool)
    crooked[run[even & (s.side == 0)][far]] = True
    fine = ~crooked[run[even & (s.side == 0)]]
    yield mine.event[fine], others.event[fine], "time", np.ones(int(fine.sum()), dtype=bool)
    hard = ((ours != theirs) & (ours > 0) & (theirs > 0)) | crooked
    yield from _pair_hard(s.at(hard[run]))


def _pair_hard(s: Stretch) -> Iterator[tuple[Array, Array, str, Array]]:
    pairs: list[tuple[int, int]] = []
    bounds = [*np.flatnonzero(_starts(s)).tolist(), len(s.lane)]
    for begin, end in pairwise(bounds):
        part = s.at(slice(begin, end))
        mine, others = part.at(part.side == 0), part.at(part.side == 1)
        found = pair_run(mine.instant.tolist(), others.instant.tolist(), int(part.reach[0]))
        pairs += [(int(mine.event[i]), int(others.event[j])) for i, j in found]
    ours, theirs = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    yield ours, theirs, "time", np.ones(len(ours), dtype=bool)
