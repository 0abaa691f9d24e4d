"""Clocks: a wrong zone, always or for a while; a lag; and sessions noted at one of their ends.

All three show in our time minus theirs. A zone moves it by quarters of an hour and alike for all; a
lag by less, and in one direction; a session's end gives all its events one instant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy

from tallystick.node.comparing.causes.hints import QUARTER_US, Hints

PAIRS_MIN = 12
SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
TIGHT_US = 60 * SECOND_US  # neighbours in time whose clocks differ alike
LAG_MAX_US = 30 * 60 * SECOND_US  # more than this, and always the same, is a zone
SWITCH_PAIRS = 8  # a stretch with another zone must explain more pairs than this, twice
ALIKE_MIN = 0.8  # of the pairs of such a stretch: that far apart, and not just about so far
ONE_SIDED_MIN = 0.6  # of the pairs of a lag: later on the same side, by more than the window
OTHER_SIDED_MAX = 0.05
WAITS_OFF_MAX = 0.25  # of a queue's waits: how far the median is from that of an exponential
ODD_QUARTERS = (23, 35, 51)  # zones that no half hour divides: Nepal, Eucla, Chatham
FOREVER = (-(2**62), 2**62)

Numbers = numpy.typing.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when until when (µs, by the clock of `side`) our clock is ahead of theirs by `shift`."""

    since_us: int
    until_us: int
    shift_us: int


@dataclass(frozen=True, slots=True)
class Lag:
    """Which side is later, by how much in the mean, and the bounds of our time minus theirs."""

    side: str
    shape: str  # constant or distributed
    mean_us: int
    low_us: int
    high_us: int
    plain: bool = True  # nothing else makes such times; sessions noted at an end make similar ones


@dataclass(frozen=True, slots=True)
class CutOff:
    """Which side notes all of a session at its start or its end; bounds as of a lag."""

    side: str
    stamp: str
    low_us: int = 0
    high_us: int = 0


@dataclass(frozen=True, slots=True)
class Clocks:
    """All about the clocks; `side` is the one whose instants bound the stretches."""

    side: str
    stretches: tuple[Stretch, ...]
    lag: Lag | None
    cut_off: CutOff | None
    pairs: int
    agreeing: float  # the part of the pairs that is as these say


def find_clocks(hints: Hints, window_us: int) -> Clocks | None:
    """What the hints say; None if they are too few to say anything."""
    meters, codes = _coded(hints.our_meters)
    if meters:  # an event of several meters has one time
        hints = hints.only(codes == numpy.argmax(numpy.bincount(codes)))
    if len(hints) < PAIRS_MIN:
        return None
    cut_off, ends = _cut_off(hints)
    told = ends if cut_off else hints
    if len(told) < PAIRS_MIN:
        return None
    tight = _spread(told) <= TIGHT_US
    side, stretches = _stretches(told, tight)
    rest = told.later - _shifts(told, side, stretches)
    lag = None if cut_off else _lag(rest, tight, window_us)
    stretches = tuple(s for s in stretches if s.shift_us)
    explained = numpy.abs(rest) <= max(window_us, SECOND_US)
    if lag:
        explained |= (rest >= lag.low_us) & (rest <= lag.high_us)
    if cut_off:
        around = hints.later - _shifts(hints, side, stretches)
        low, high = numpy.quantile(around, (0.001, 0.999))
        bounds = int(low) - window_us - SECOND_US, int(high) + window_us + SECOND_US
        cut_off = CutOff(cut_off.side, cut_off.stamp, *bounds)
        explained[:] = True
    return Clocks(side, stretches, lag, cut_off, len(told), float(explained.mean()))


def _spread(hints: Hints) -> float:
    later = hints.later[numpy.argsort(hints.their_instants, kind="stable")]
    return float(numpy.median(numpy.abs(numpy.diff(later))))


def _cut_off(hints: Hints) -> tuple[CutOff | None, Hints]:
    """Whether a side gives events that are apart there one instant, and each session's one pair
    that tells the time best: its last event, or its first.
    """
    instants = {"ours": hints.our_instants, "theirs": hints.their_instants}
    groups = {
        side: _groups(hints.our_subjects if side == "ours" else hints.their_subjects, at)
        for side, at in instants.items()
    }
    joined = {side: 1 - (group.max() + 1) / len(hints) for side, group in groups.items()}
    side = max(joined, key=lambda name: joined[name])
    other = "theirs" if side == "ours" else "ours"
    if joined[side] < 0.05 or joined[side] < 4 * joined[other]:
        return None, hints
    order = numpy.lexsort((instants[other], groups[side]))
    group = groups[side][order]
    first = numpy.flatnonzero(numpy.concatenate([[True], group[1:] != group[:-1]]))
    last = numpy.concatenate([first[1:], [len(group)]]) - 1
    several = last > first
    spans = instants[other][order[last]] - instants[other][order[first]]
    several &= spans > SECOND_US
    if several.sum() < PAIRS_MIN // 2:
        return None, hints
    tightness = {}
    for stamp, ends in (("start", first), ("end", last)):
        later = hints.later[order[ends[several]]]
        tightness[stamp] = float(numpy.median(numpy.abs(later - numpy.median(later))))
    stamp = min(tightness, key=lambda name: tightness[name])
    best = tightness[stamp]
    if best > TIGHT_US or best > 0.5 * float(numpy.median(spans[several])):
        return None, hints
    return CutOff(side, stamp), hints.only(order[first if stamp == "start" else last])


def _coded(names: Numbers) -> tuple[list[str], Numbers]:
    """The names in order, and each place's number in them."""
    every = names.tolist()
    values = sorted(set(every))
    number = {name: n for n, name in enumerate(values)}
    return values, numpy.fromiter((number[name] for name in every), numpy.int64, len(every))


def _groups(subjects: Numbers, instants: Numbers) -> Numbers:
    _, codes = _coded(subjects)
    _, times = numpy.unique(instants, return_inverse=True)
    found: Numbers
    _, found = numpy.unique(codes * len(instants) + times, return_inverse=True)
    return found


def _stretches(hints: Hints, tight: bool) -> tuple[str, tuple[Stretch, ...]]:
    """The stretches, and the side whose clock bounds them best."""
    later = hints.later
    if tight:
        # One of them, so that some are near it: of two halves far apart the mean is near none.
        middle = int(numpy.quantile(later, 0.5, method="lower"))
        labels = numpy.rint((later - middle) / QUARTER_US).astype(int)
        off = numpy.abs(later - middle - labels * QUARTER_US)
        alike = off <= max(TIGHT_US, 3 * float(numpy.quantile(off[labels == 0], 0.9)))
    else:
        # a tail towards later: what is least late tells the zone, and the other way round
        low, half, high = numpy.quantile(later, (0.02, 0.5, 0.98))
        late_here = half - low <= high - half
        middle = int(low if late_here else high)
        labels = _wide_labels(hints, late_here, middle)
        alike = numpy.ones(len(hints), bool)
    shift_us = _nearest_zone(middle)
    values, counts = numpy.unique(labels, return_counts=True)
    often = values[numpy.argsort(-counts, kind="stable")][:3]
    if len(often) == 1:
        return "theirs", (Stretch(*FOREVER, shift_us),)
    best: tuple[int, str, list[tuple[int, int, int]]] | None = None
    for side, at in (("theirs", hints.their_instants), ("ours", hints.our_instants)):
        order = numpy.argsort(at, kind="stable")
        misfits, parts = runs(labels[order], often)
        fits = alike[order]
        parts = [
            (a, b, label if fits[a:b].mean() >= ALIKE_MIN else int(often[0]))
            for a, b, label in parts
        ]
        found = [(_edge(at[order], start), _edge(at[order], end), int(label))
                 for start, end, label in parts]  # fmt: skip
        if best is None or misfits < best[0]:
            best = misfits, side, found
    assert best is not None
    _, side, found = best
    return side, tuple(Stretch(a, b, shift_us + label * QUARTER_US) for a, b, label in found)


def _wide_labels(hints: Hints, late_here: bool, middle_us: int) -> Numbers:
    """Each pair's zone against the middle, in quarters, where a lag hides that of single pairs."""
    order = numpy.argsort(hints.their_instants, kind="stable")
    labels = numpy.zeros(len(hints), int)
    for part in numpy.array_split(order, max(len(hints) // 40, 1)):
        told = float(numpy.quantile(hints.later[part], 0.05 if late_here else 0.95))
        labels[part] = round((told - middle_us) / HOUR_US) * 4
    return labels


def _nearest_zone(middle_us: int) -> int:
    """The zone's part of a difference; what is less than half an hour is a lag, all of it."""
    quarters = middle_us / QUARTER_US
    if abs(quarters - round(quarters)) * QUARTER_US <= 2 * SECOND_US:
        return round(quarters) * QUARTER_US
    if abs(middle_us) < LAG_MAX_US - 2 * SECOND_US:
        return 0
    nearest = round(quarters)
    if abs(nearest) in ODD_QUARTERS and abs(quarters - nearest) <= 1 / 3:
        return nearest * QUARTER_US
    return round(quarters / 2) * 2 * QUARTER_US


def _edge(instants: Numbers, place: int) -> int:
    if place == 0:
        return FOREVER[0]
    return FOREVER[1] if place == len(instants) else int(instants[place])


def runs(labels: Numbers, values: Numbers) -> tuple[int, list[tuple[int, int, int]]]:
    """The stretches of equal labels that explain most, each switch costing `SWITCH_PAIRS`."""
    states = range(len(values))
    changes = (numpy.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist()
    cost = [0] * len(values)
    steps: list[tuple[int, int, list[int]]] = []  # from, until, and whence each state came there
    for place, end in pairwise([0, *changes, len(labels)]):
        wrong = [int(labels[place] != value) for value in values]
        while place < end:
            best = cost.index(min(cost))
            limit = cost[best] + SWITCH_PAIRS
            whence = [state if cost[state] <= limit else best for state in states]
            more = [min(old, limit) + new - old for old, new in zip(cost, wrong, strict=True)]
            # What costs all states the same goes on so to the end of equal labels.
            until = end if len(set(more)) == 1 else place + 1
            cost = [old + (until - place) * new for old, new in zip(cost, more, strict=True)]
            steps.append((place, until, whence))
            place = until
    state = cost.index(min(cost))
    total, path = cost[state], numpy.empty(len(labels), dtype=int)
    for place, until, whence in reversed(steps):
        path[place:until] = whence[state]  # staying or coming is for good within a step
        path[until - 1] = state
        state = whence[path[place]]
    starts = [0, *(numpy.flatnonzero(numpy.diff(path)) + 1).tolist(), len(path)]
    return total, [(a, b, int(values[path[a]])) for a, b in pairwise(starts)]


def _shifts(hints: Hints, side: str, stretches: Sequence[Stretch]) -> Numbers:
    at = hints.their_instants if side == "theirs" else hints.our_instants
    shifts = numpy.zeros(len(hints), dtype=numpy.int64)
    for stretch in stretches:
        shifts[(at >= stretch.since_us) & (at < stretch.until_us)] = stretch.shift_us
    return shifts


def _lag(rest: Numbers, tight: bool, window_us: int) -> Lag | None:
    """A lag in what the zones leave over; none if it is within the terms' window."""
    for side, sign in (("ours", 1), ("theirs", -1)):
        late = sign * rest
        if (late > window_us).mean() < ONE_SIDED_MIN:
            continue
        if (late < -window_us).mean() > OTHER_SIDED_MAX:
            continue
        half = float(numpy.median(late))
        apart = float(numpy.median(numpy.abs(late - half)))
        if tight and apart < 0.1 * half:
            reach = int(3 * numpy.quantile(numpy.abs(late - half), 0.9)) + window_us
            low, high = int(half) - reach, int(half) + reach
            shape, mean = "constant", half
        else:
            sane = late[late <= numpy.quantile(late, 0.999)]
            mean = float(sane.mean())
            low, high, shape = -window_us, int(20 * mean) + window_us, "distributed"
        bounds = (low, high) if sign == 1 else (-high, -low)
        as_waits = mean <= LAG_MAX_US and abs(half / (mean * math.log(2)) - 1) <= WAITS_OFF_MAX
        return Lag(side, shape, round(mean), *bounds, shape == "constant" or as_waits)
    return None
