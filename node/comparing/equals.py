"""Pairing what is equal but for its time: in one sorted stream, run by run.

A *run* is a stretch of events of a lane and quantity with no gap wider than the window; no pair can
leave it. In a run, what is equal to the microsecond pairs first. What remains falls into shorter
runs. One in which both sides have equally many, and the first with the first and so on are within
the window, is paired so: that leaves nothing over, and no other way is closer in time. For all
others `runs` decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tallystick.node.comparing.runs import pair_run
from tallystick.node.comparing.stretches import (
    Array,
    Pairs,
    Stretch,
    insert_pairs,
    pairs_of,
    stretches,
)
from tallystick.node.comparing.tables import Tables


def pair_equals(tables: Tables) -> None:
    """Add to `pairs` what has equal quantities on one lane, within the window."""
    for stretch in stretches(tables, "lane, quantity, instant", _starts):
        same, rest = _pair_same(stretch)
        insert_pairs(tables, "equal", same)
        for pairs in _pair_runs(rest):
            insert_pairs(tables, "time", pairs)


def _starts(s: Stretch) -> Array:
    """Which events begin a run."""
    begins = np.ones(len(s.lane), dtype=bool)
    begins[1:] = (
        (s.lane[1:] != s.lane[:-1])
        | (s.quantity[1:] != s.quantity[:-1])
        | (s.instant[1:] - s.instant[:-1] > s.reach[1:])
    )
    return begins


def _pair_same(s: Stretch) -> tuple[Pairs, Stretch]:
    """Pair what is at the same instant, and what that leaves.

    Which of several equal events is left over is a guess, and so are all pairs among them.
    """
    begins = _starts(s)
    begins[1:] |= s.instant[1:] != s.instant[:-1]
    group = np.cumsum(begins) - 1
    ours, theirs = _counts(group, s.side)
    rank = np.arange(len(group)) - np.flatnonzero(begins)[group]
    rank -= np.where(s.side == 1, ours[group], 0)
    taken = rank < np.minimum(ours, theirs)[group]
    mine, others = taken & (s.side == 0), taken & (s.side == 1)
    pairs = Pairs(s.event[mine], s.event[others], (ours == theirs)[group][mine])
    return pairs, s.at(~taken)


def _counts(group: Array, side: Array) -> tuple[Array, Array]:
    """How many events of ours and of theirs each group has; groups are numbered from 0."""
    size = int(group[-1]) + 1 if len(group) else 0
    theirs = np.bincount(group[side == 1], minlength=size)
    return np.bincount(group, minlength=size) - theirs, theirs


def _pair_runs(s: Stretch) -> Iterator[Pairs]:
    run = np.cumsum(_starts(s)) - 1
    ours, theirs = _counts(run, s.side)
    even = (ours == theirs)[run]
    mine, others = s.at(even & (s.side == 0)), s.at(even & (s.side == 1))
    runs = run[even & (s.side == 0)]
    crooked = np.zeros(len(ours), dtype=bool)
    crooked[runs[np.abs(mine.instant - others.instant) > mine.reach]] = True
    fine = ~crooked[runs]
    yield Pairs(mine.event[fine], others.event[fine], np.ones(int(fine.sum()), dtype=bool))
    hard = ((ours != theirs) & (ours > 0) & (theirs > 0)) | crooked
    yield _pair_hard(s.at(hard[run]))


def _pair_hard(s: Stretch) -> Pairs:
    found: list[tuple[int, int, bool]] = []
    for begin, end in pairwise([*np.flatnonzero(_starts(s)).tolist(), len(s.lane)]):
        part = s.at(slice(begin, end))
        mine, others = part.at(part.side == 0), part.at(part.side == 1)
        ours, theirs = mine.event.tolist(), others.event.tolist()
        way = pair_run(mine.instant.tolist(), others.instant.tolist(), int(part.reach[0]))
        found += [(ours[i], theirs[j], likely) for i, j, likely in way]
    return pairs_of(found)
