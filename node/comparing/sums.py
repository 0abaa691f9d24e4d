"""Pairing sums with what they are of: one daily row there, a thousand events here.

A *whole* is an event of one side whose quantity is that of all events of its lane, on the other
side, in a window: from the sum before it or up to the one after it (`stretch`), or the hour, day or
period that it is in or that it ends. Which side has the sums, and of which windows, is decided once
for a lane, or for its meter where a lane alone says too little: of the wholes with several events
in their window, half must be their sum to the last digit, or all of them up to rounding. Then the
lane's other wholes are taken for sums too, as far as they come near, and what is off is found.
All that is in a window counts: some of it that happens to add up is no match.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow

from tallystick.node.comparing.stretches import Array, Stretch, lane_starts, stretches
from tallystick.node.comparing.tables import SIDES, Tables
from tallystick.protocol.periods import Calendar

STEPS = ("stretch", "hour", "day", "period")
PARTS_MIN = 4  # that the sums which decide must have between them
RELATIVE = 200  # a sum over this may be rounding, as may one whole unit

_LIMB = 32  # quantities are added in halves of this many bits: their sums may be beyond 64
_GROUPS = pyarrow.schema(
    [
        ("side", pyarrow.string()),
        ("whole", pyarrow.int64()),
        ("part", pyarrow.int64()),
        ("step", pyarrow.string()),
        ("confidence", pyarrow.string()),
    ]
)


class Scheme(NamedTuple):
    """A way in which one side's events may be sums of the other's."""

    side: int  # that has the sums
    step: str
    ends: bool  # a sum stands at the end of its window, not at its start or within


SCHEMES = [Scheme(side, step, ends) for side in (0, 1) for step in STEPS for ends in (True, False)]


class _Fit(NamedTuple):
    """A scheme tried on lanes: each whole's lane, event and window (a range of parts), whether it
    is the window's sum, up to rounding, or at least half of it.
    """

    lane: Array
    whole: Array
    low: Array
    high: Array
    parts: Array  # events
    exact: Array
    rounded: Array
    close: Array

    def votes(self, lanes: int) -> Array:
        """By lane: wholes with several parts, such that are exact, such that are rounded, and the
        parts of the rounded ones.
        """
        many = self.high - self.low > 1
        counted = (many, many & self.exact, many & self.rounded)
        parts = np.where(many & self.rounded, self.high - self.low, 0)
        return np.stack(
            [
                *(np.bincount(self.lane[mask], minlength=lanes) for mask in counted),
                np.bincount(self.lane, weights=parts, minlength=lanes).astype(np.int64),
            ]
        )


def group_sums(tables: Tables) -> None:
    """Fill `groups` from what is left on the lanes of meters that add up."""
    found = tables.db.execute(
        "SELECT lane, dense_rank() OVER (ORDER BY meter) - 1, scale FROM lanes"
        " WHERE aggregate = 'sum' AND lane IN (SELECT lane FROM rest) ORDER BY lane"
    ).fetchall()
    if not found:
        return
    numbers, meter, scale = np.array(found, dtype=np.int64).T
    windows = Windows(tables)
    votes = np.zeros((len(SCHEMES), 4, int(meter.max()) + 1), dtype=np.int64)
    for lanes, events in _by_lane(tables, numbers):
        for n, scheme in enumerate(SCHEMES):
            cast = _fit(scheme, events, windows, 10 ** scale[lanes]).votes(len(lanes))
            np.add.at(votes[n].T, meter[lanes], cast.T)
    by_meter = _decided(votes)
    for lanes, events in _by_lane(tables, numbers):
        fits = [_fit(scheme, events, windows, 10 ** scale[lanes]) for scheme in SCHEMES]
        chosen = _decided(np.stack([fit.votes(len(lanes)) for fit in fits]))
        chosen = np.where(chosen >= 0, chosen, by_meter[meter[lanes]])
        for scheme, fit, n in zip(SCHEMES, fits, range(len(fits)), strict=True):
            _insert(tables, scheme, fit, chosen == n)


def _by_lane(tables: Tables, numbers: Array) -> Iterator[tuple[Array, Stretch]]:
    """The events left, some whole lanes at a time; their lanes are numbered from 0 each time."""
    for stretch in stretches(tables, "lane, instant", lane_starts):
        events = stretch.at(np.isin(stretch.lane, numbers))
        present, dense = np.unique(events.lane, return_inverse=True)
        if len(present):
            yield np.searchsorted(numbers, present), events._replace(lane=dense)


def _decided(votes: Array) -> Array:
    """For each lane, or meter, the scheme that most parts speak for; -1 if none decides."""
    several, exact, rounded, parts = votes.swapaxes(0, 1)
    decides = (2 * exact >= several) | ((rounded == several) & (several > 1))
    score = np.where(decides & (parts >= PARTS_MIN), parts, 0)
    return np.where(score.max(axis=0) > 0, score.argmax(axis=0), -1)


class Windows:
    """The windows of the calendar that instants are in."""

    def __init__(self, tables: Tables) -> None:
        self._edges = np.array([tables.start_us, tables.end_us])
        self._calendars = {step: Calendar(step, tables.time_zone) for step in ("hour", "day")}

    def around(self, step: str, instants: Array) -> tuple[Array, Array]:
        """The first instant of each one's window, and the first after it."""
        order = np.argsort(instants, kind="stable")
        times, low, high = instants[order], np.empty_like(instants), np.empty_like(instants)
        place = 0
        while place < len(times):
            first, after = self._window(step, int(times[place]))
            end = int(np.searchsorted(times, after))
            low[order[place:end]], high[order[place:end]] = first, after
            place = end
        return low, high

    def _window(self, step: str, instant: int) -> tuple[int, int]:
        if step == "period":
            edges = [-(2**60), *self._edges.tolist(), 2**60]
            place = int(np.searchsorted(self._edges, instant, side="right"))
            return edges[place], edges[place + 1]
        period = self._calendars[step].period_of(max(instant, 0))
        return period.start_us, period.end_us


def _fit(scheme: Scheme, events: Stretch, windows: Windows, units: Array) -> _Fit:
    """Try a scheme on whole lanes that are numbered from 0 and sorted by time."""
    wholes, parts = events.at(events.side == scheme.side), events.at(events.side != scheme.side)
    if scheme.step == "stretch":
        low, high = _stretches_of(wholes, scheme.ends)
        alone = np.ones(len(low), dtype=bool)
    else:
        low, high = windows.around(scheme.step, wholes.instant - scheme.ends)
        alone = ~_repeated(wholes.lane, low)
    first, after = _places(parts, wholes.lane, low), _places(parts, wholes.lane, high)
    after = np.where(alone, np.maximum(after, first), first)
    exact, off = _differences(parts.quantity, first, after, wholes.quantity)
    size = np.abs(wholes.quantity.astype(np.float64))
    filled = after > first
    rounded = filled & (off <= np.maximum(size / RELATIVE, units[wholes.lane]))
    close = filled & (off <= size / 2)
    return _Fit(
        wholes.lane, wholes.event, first, after, parts.event, exact & filled, rounded, close
    )  # fmt: skip


def _stretches_of(wholes: Stretch, ends: bool) -> tuple[Array, Array]:
    """From the whole before up to each, or from each up to the one after it, in its lane."""
    low, high = np.full(len(wholes.lane), -(2**60)), np.full(len(wholes.lane), 2**60)
    same = wholes.lane[1:] == wholes.lane[:-1]
    if ends:
        low[1:][same] = wholes.instant[:-1][same] + 1
        return low, wholes.instant + 1
    high[:-1][same] = wholes.instant[1:][same]
    return wholes.instant, high


def _repeated(lane: Array, low: Array) -> Array:
    """Which of the windows some other whole of the lane has too."""
    order = np.lexsort((low, lane))
    same = (np.diff(lane[order]) == 0) & (np.diff(low[order]) == 0)
    found = np.zeros(len(lane), dtype=bool)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


def _places(parts: Stretch, lane: Array, instant: Array) -> Array:
    """Where in the parts, sorted by lane and instant, the first at or after each point is."""
    points = np.concatenate([instant, parts.instant])
    _, rank = np.unique(points, return_inverse=True)
    width = int(rank.max()) + 1 if len(rank) else 1
    keys = parts.lane * width + rank[len(instant) :]
    return np.searchsorted(keys, lane * width + rank[: len(instant)])


def _differences(quantity: Array, first: Array, after: Array, whole: Array) -> tuple[Array, Array]:
    """Whether each whole is the exact sum of its range of parts, and about how far it is off."""
    mask = (1 << _LIMB) - 1

    def added(limbs: Array) -> Array:
        sums = np.concatenate([[0], np.cumsum(limbs)])
        return sums[after] - sums[first]

    upper, lower = added(quantity >> _LIMB), added(quantity & mask)
    upper = upper + (lower >> _LIMB) - (whole >> _LIMB)
    lower = (lower & mask) - (whole & mask)
    return (upper == 0) & (lower == 0), np.abs(upper * float(1 << _LIMB) + lower)


def _insert(tables: Tables, scheme: Scheme, fit: _Fit, chosen: Array) -> None:
    taken = chosen[fit.lane] & (fit.exact | fit.close)
    count = (fit.high - fit.low)[taken]
    if not len(count):
        return
    offsets = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    parts = fit.parts[np.repeat(fit.low[taken], count) + offsets]
    wholes = np.repeat(fit.whole[taken], count)
    names = np.where(np.repeat(fit.exact[taken], count), "likely", "possible").tolist()
    side, step = [SIDES[scheme.side]] * len(names), [scheme.step] * len(names)
    tables.insert("groups", _GROUPS, [side, wholes, parts, step, names])
