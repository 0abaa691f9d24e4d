"""Pairing what differs a little in quantity, as rounding does, within the window of time.

A *cluster* is a stretch of events of one lane with no gap wider than the window. Two events of it
may pair if they are within the window and their quantities not further apart than one whole unit
or half a percent. Of all ways with the most pairs the one with the least distance is taken, time
and quantity each in parts of what is allowed. A pair is likely if neither of its events could have
had another partner. In a cluster with too many combinations, each of their events, earliest first,
takes the nearest of ours, and no pair is likely.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

from tallystick.node.comparing.assignment import assign
from tallystick.node.comparing.stretches import (
    Array,
    Stretch,
    insert_pairs,
    pairs_of,
    stretches,
)
from tallystick.node.comparing.tables import Tables

CELLS_MAX = 1024  # a cluster with more combinations than this is not assigned as a whole
LOOKED_AT_MAX = 64  # events that one is compared with there
PARTS = 1_000_000  # that an allowed distance is divided into
RELATIVE = 200  # a quantity over this may be the difference

Point = tuple[int, int]  # instant and quantity
Ways = list[tuple[int, int, bool]]


def pair_near(tables: Tables) -> None:
    """Add to `pairs` what is close in time and nearly equal in quantity."""
    found = tables.db.execute("SELECT lane, aggregate = 'count', scale FROM lanes").fetchall()
    units = {lane: None if counts else 10**scale for lane, counts, scale in found}
    for stretch in stretches(tables, "lane, instant, quantity", _starts):
        insert_pairs(tables, "near", pairs_of(_pair_clusters(stretch, units)))


def _starts(s: Stretch) -> Array:
    """Which events begin a cluster."""
    begins = np.ones(len(s.lane), dtype=bool)
    begins[1:] = (s.lane[1:] != s.lane[:-1]) | (s.instant[1:] - s.instant[:-1] > s.reach[1:])
    return begins


def _pair_clusters(s: Stretch, units: dict[int, int | None]) -> Ways:
    found: Ways = []
    bounds = np.flatnonzero(_starts(s))
    mixed = np.minimum.reduceat(s.side, bounds) < np.maximum.reduceat(s.side, bounds)
    ends = np.append(bounds[1:], len(s.lane))
    for begin, end in zip(bounds[mixed].tolist(), ends[mixed].tolist(), strict=True):
        part = s.at(slice(begin, end))
        mine, others = part.at(part.side == 0), part.at(part.side == 1)
        ours, theirs = mine.event.tolist(), others.event.tolist()
        way = pair_cluster(
            _points(mine), _points(others), int(part.reach[0]), units[int(part.lane[0])]
        )
        found += [(ours[i], theirs[j], likely) for i, j, likely in way]
    return found


def _points(s: Stretch) -> list[Point]:
    return list(zip(s.instant.tolist(), s.quantity.tolist(), strict=True))


def pair_cluster(ours: list[Point], theirs: list[Point], window_us: int, unit: int | None) -> Ways:
    """Pairs of indexes into both lists, each sorted by time, and whether each is likely.

    `unit` is one whole unit in the meter's scale; None where quantities do not count.
    """
    if len(ours) * len(theirs) > CELLS_MAX:
        return _nearest_first(ours, theirs, window_us, unit)
    costs = {}
    for i, mine in enumerate(ours):
        for j, other in enumerate(theirs):
            cost = distance(mine, other, window_us, unit)
            if cost is not None:
                costs[i, j] = cost
    partners = ([0] * len(ours), [0] * len(theirs))
    for i, j in costs:
        partners[0][i] += 1
        partners[1][j] += 1
    return [(i, j, partners[0][i] == partners[1][j] == 1) for i, j in assign(costs).items()]


def distance(mine: Point, other: Point, window_us: int, unit: int | None) -> int | None:
    """How far apart two events are, in parts of what is allowed; None if they cannot pair."""
    apart_us = abs(mine[0] - other[0])
    if apart_us > window_us:
        return None
    parts = apart_us * PARTS // max(window_us, 1)
    if unit is None:
        return parts
    differ, allowed = abs(mine[1] - other[1]), max(abs(other[1]) // RELATIVE, unit)
    if differ > allowed:
        return None
    return parts + differ * PARTS // allowed


def _nearest_first(
    ours: list[Point], theirs: list[Point], window_us: int, unit: int | None
) -> Ways:
    times = [at for at, _ in ours]
    taken: set[int] = set()
    found: Ways = []
    for j, other in enumerate(theirs):
        start = bisect_left(times, other[0] - window_us)
        near: Iterable[int] = range(start, min(start + LOOKED_AT_MAX, len(ours)))
        costs = [
            (cost, i)
            for i in near
            if i not in taken and (cost := distance(ours[i], other, window_us, unit)) is not None
        ]
        if costs:
            i = min(costs)[1]
            taken.add(i)
            found.append((i, j, False))
    return found
