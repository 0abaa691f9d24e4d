"""Sums: a side that notes one row an hour, a day or a session, and what its clock and stamps are.

Sums are recognised by their instants (whole hours or days, one row a subject) or, of sessions, by
what lies between two of them; and accepted if most of them are to the other side's events between
in one and the same ratio. Their parts go to `sum_parts`, and are not shown to pairing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from tallystick.node.comparing.causes.clocks import FOREVER, Clocks, CutOff, Stretch, runs
from tallystick.node.comparing.causes.factors import step_of
from tallystick.node.comparing.causes.hints import Hints
from tallystick.node.comparing.tables import SIDES, Side, Tables

HOUR_US = 3_600_000_000
LENGTHS = {"day": 24 * HOUR_US, "hour": HOUR_US}
SHIFTS_HOURS = range(-13, 15)
SUMS_MIN = 12
SEVERAL_MIN = 5  # sums with more than one part
NEAR = 0.02  # a ratio this close to the middle one is the same
AGREEING_MIN = 0.5
FEWER = 0.85  # as many rows as the other side, at most, a side of sums has
SESSION_MAX_US = 13 * HOUR_US

Numbers = numpy.typing.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sums:
    """Which side sums what, and the clocks that this tells."""

    side: Side
    grain: str  # hour, day or session
    clocks: Clocks
    agreeing: float


@dataclass(frozen=True, slots=True)
class _Rows:
    subjects: Numbers
    instants: Numbers
    quantities: Numbers


def find_sums(tables: Tables, window_us: int) -> Sums | None:
    """The side that sums, if one clearly does."""
    meter = _meter(tables)
    if meter is None:
        return None
    best: Sums | None = None
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        sums, parts = _rows(tables, side, meter), _rows(tables, other, meter)
        if not SUMS_MIN <= len(sums.instants) <= FEWER * len(parts.instants):
            continue
        sums, parts = _common(sums, parts)
        grain = _grain(sums)
        if grain and len(sums.instants):
            found = _of_windows(side, grain, sums, parts)
        else:
            found = _of_sessions(side, sums, parts, window_us)
        if found and (best is None or found.agreeing > best.agreeing):
            best = found
    return best


def _meter(tables: Tables) -> str | None:
    """The meter that adds up and has the most events on the side that has fewer."""
    row = tables.db.execute(
        """SELECT as_meter FROM (SELECT as_meter, count(*) AS n FROM ours_as GROUP BY 1)
        JOIN (SELECT as_meter, count(*) AS m FROM theirs_as GROUP BY 1) USING (as_meter)
        JOIN kinds ON kinds.meter = as_meter WHERE aggregate = 'sum'
        ORDER BY least(n, m) DESC, as_meter LIMIT 1"""
    ).fetchone()
    return row[0] if row else None


def _rows(tables: Tables, side: Side, meter: str) -> _Rows:
    found = tables.db.execute(
        f"""SELECT as_subject AS s, instant AS i, as_quantity::DOUBLE AS q FROM {side}_as
        WHERE as_meter = ? AND as_quantity IS NOT NULL ORDER BY instant, event""",
        [meter],
    ).fetchnumpy()
    return _Rows(numpy.asarray(found["s"]).astype(str), found["i"], found["q"])


def _common(sums: _Rows, parts: _Rows) -> tuple[_Rows, _Rows]:
    """Rows of the subjects that both sides name, numbered; all as one subject if there are few."""
    names, codes = numpy.unique(
        numpy.concatenate([sums.subjects, parts.subjects]), return_inverse=True
    )
    here, there = codes[: len(sums.subjects)], codes[len(sums.subjects) :]
    both = numpy.intersect1d(here, there)
    kept, kept_parts = numpy.isin(here, both), numpy.isin(there, both)
    if kept.sum() < max(SUMS_MIN, 0.2 * len(here)) or not len(names):
        here, there = numpy.zeros_like(here), numpy.zeros_like(there)
        kept[:], kept_parts[:] = True, True
    return (
        _Rows(here[kept], sums.instants[kept], sums.quantities[kept]),
        _Rows(there[kept_parts], parts.instants[kept_parts], parts.quantities[kept_parts]),
    )


def _grain(sums: _Rows) -> str | None:
    for grain, length in LENGTHS.items():
        if (sums.instants % length == sums.instants[0] % length).mean() >= 0.98:
            return grain
    return None


def _of_windows(side: Side, grain: str, sums: _Rows, parts: _Rows) -> Sums | None:
    length = LENGTHS[grain]
    rest = int(sums.instants[0] % length)
    keys, where = numpy.unique(
        numpy.stack([sums.subjects, (sums.instants - rest) // length]), axis=1, return_inverse=True
    )
    wholes = numpy.bincount(where.ravel(), weights=sums.quantities)
    index = {(int(s), int(b)): n for n, (s, b) in enumerate(keys.T)}
    agree = []
    for hours in SHIFTS_HOURS:
        buckets = (parts.instants + hours * HOUR_US - rest) // length
        asked = zip(parts.subjects.tolist(), buckets.tolist(), strict=True)
        placed = numpy.array([index.get(key, -1) for key in asked])
        agree.append(_same_ratio(wholes, placed, parts.quantities))
    shares = numpy.array([share for _, share in agree])
    shares += numpy.array([1e-6 * (hours == 0) for hours in SHIFTS_HOURS])
    first = int(numpy.argmax(shares))
    if shares[first] < AGREEING_MIN * 0.6:
        return None
    sign = 1 if side == "ours" else -1
    shifts = [hours * HOUR_US for hours in SHIFTS_HOURS]
    stretches, told = _stretches(
        keys[1] * length + rest, [same for same, _ in agree], first, float(agree[first][1])
    )
    if told < AGREEING_MIN:
        return None
    clocks = Clocks(
        side,
        tuple(Stretch(a, b, sign * shifts[n]) for a, b, n in stretches if shifts[n]),
        None, None, len(wholes), float(told),
    )  # fmt: skip
    return Sums(side, grain, clocks, float(told))


def _same_ratio(wholes: Numbers, place: Numbers, quantities: Numbers) -> tuple[Numbers, float]:
    """Which sums are in the ratio to their parts that most are in, and how many of those that have
    several parts: the others would agree with any grouping.
    """
    placed = place >= 0
    size = len(wholes)
    added = numpy.bincount(place[placed], weights=quantities[placed], minlength=size)
    several = numpy.bincount(place[placed], minlength=size) > 1
    both = (wholes > 0) & (added > 0)
    if several.sum() < max(SEVERAL_MIN, 0.05 * size) or not both.any():
        return numpy.zeros(size, bool), 0.0
    ratio = numpy.where(both, wholes / numpy.where(added > 0, added, 1), 0)
    large = both & (wholes >= numpy.median(wholes[both]))
    middle = numpy.median(ratio[large])
    step = step_of(numpy.rint(wholes).astype(numpy.int64))
    slack = NEAR * middle * added + (step if step > 1 else 0)
    same = both & (numpy.abs(wholes - middle * added) <= slack)
    return same, float(same[several].mean())


def _stretches(
    instants: Numbers, agree: Sequence[Numbers], first: int, share: float
) -> tuple[list[tuple[int, int, int]], float]:
    """The stretches of one clock each, and the part of the sums that agree with them."""
    told = agree[first]
    whole = [(*FOREVER, first)], share
    gains = [int((other & ~told).sum()) for other in agree]
    second = int(numpy.argmax(gains))
    if gains[second] < max(8, 0.08 * len(instants)):
        return whole
    order = numpy.argsort(instants, kind="stable")
    labels = numpy.full(len(instants), -1)
    labels[agree[second] & ~told] = second
    labels[told & ~agree[second]] = first
    _, found = runs(labels[order], numpy.array([first, second]))
    at = instants[order]
    edges = [
        (FOREVER[0] if a == 0 else int(at[a]), FOREVER[1] if b == len(at) else int(at[b]), n)
        for a, b, n in found
    ]
    right = numpy.zeros(len(at), bool)
    for since, until, n in edges:
        inside = (instants >= since) & (instants < until)
        right |= inside & agree[n]
    return (edges, float(right.mean())) if right.mean() > whole[1] + 0.05 else whole


def _of_sessions(side: Side, sums: _Rows, parts: _Rows, window_us: int) -> Sums | None:
    best: tuple[float, str] | None = None
    for stamp in ("start", "end"):
        place = _by_stamp(sums, parts, stamp, window_us)
        _, share = _same_ratio(sums.quantities, place, parts.quantities)
        if best is None or share > best[0]:
            best = share, stamp
    if best is None or best[0] < AGREEING_MIN:
        return None
    low, high = (-SESSION_MAX_US, 0) if best[1] == "start" else (0, SESSION_MAX_US)
    if side == "theirs":
        low, high = -high, -low
    cut_off = CutOff(side, best[1], low, high)
    clocks = Clocks(side, (), None, cut_off, len(sums.instants), best[0])
    return Sums(side, "session", clocks, best[0])


def _by_stamp(sums: _Rows, parts: _Rows, stamp: str, window_us: int) -> Numbers:
    """For each part the sum that it is in: the last that starts before it, or next that ends."""
    place = numpy.full(len(parts.instants), -1)
    for subject in numpy.unique(sums.subjects):
        mine = numpy.flatnonzero(sums.subjects == subject)
        theirs = numpy.flatnonzero(parts.subjects == subject)
        mine = mine[numpy.argsort(sums.instants[mine], kind="stable")]
        stamps, at = sums.instants[mine], parts.instants[theirs]
        if stamp == "start":
            found = numpy.searchsorted(stamps, at + window_us, side="right") - 1
        else:
            found = numpy.searchsorted(stamps, at - window_us, side="left")
        fine = (found >= 0) & (found < len(mine))
        fine[fine] &= numpy.abs(stamps[found[fine]] - at[fine]) <= SESSION_MAX_US
        place[theirs[fine]] = mine[found[fine]]
    return place


def group_parts(tables: Tables, sums: Sums, shift_sql: str, window_us: int) -> None:
    """Make `sum_parts` of all sums and their parts, as the views `_as` show them now."""
    side = sums.side
    other = SIDES[1 - SIDES.index(side)]
    if sums.grain == "session":
        stamp = sums.clocks.cut_off.stamp if sums.clocks.cut_off else "start"
        if stamp == "start":
            join, near = "p.instant + {w} >= w.instant", "ASOF"
        else:
            join, near = "p.instant - {w} <= w.instant", "ASOF"
        on = join.format(w=window_us)
        query = f"""SELECT w.event AS whole, p.event AS part
            FROM {other}_as p {near} JOIN {side}_as w
            ON p.as_meter = w.as_meter AND p.as_subject = w.as_subject AND {on}
            WHERE abs(p.instant - w.instant) <= {SESSION_MAX_US}"""
    else:
        length = LENGTHS[sums.grain]
        moved = f"(p.instant + {shift_sql})" if side == "ours" else f"(p.instant - {shift_sql})"
        query = f"""SELECT min(w.event) AS whole, p.event AS part
            FROM {other}_as p JOIN {side}_as w ON p.as_meter = w.as_meter
                AND p.as_subject = w.as_subject
                AND w.instant = {moved} - ({moved} - w.rest) % {length}
            GROUP BY p.event"""
        query = query.replace(
            f"JOIN {side}_as w", f"JOIN (SELECT *, instant % {length} AS rest FROM {side}_as) w"
        ).replace("w.rest", f"(SELECT any_value(instant % {length}) FROM {side})")
    tables.db.execute(f"CREATE OR REPLACE TABLE sum_parts AS {query}")


def sum_hints(tables: Tables, sums: Sums) -> Hints:
    """The sums and what their parts add up to, as pairs."""
    side = sums.side
    other = SIDES[1 - SIDES.index(side)]
    found = tables.db.execute(
        f"""
        SELECT w.event AS whole, min(p.event) AS part, any_value(w.as_meter) AS meter,
            any_value(w.subject) AS ws, any_value(p.subject) AS ps,
            any_value(w.as_quantity) AS wq, sum(p.as_quantity::HUGEINT)::BIGINT AS pq,
            any_value(w.instant) AS wi, min(p.instant) AS pi
        FROM sum_parts JOIN {side}_as w ON w.event = whole JOIN {other}_as p ON p.event = part
        GROUP BY w.event ORDER BY w.event LIMIT 20000
        """
    ).fetchnumpy()
    found = {name: numpy.asarray(column) for name, column in found.items()}
    nothing = numpy.full(len(found["whole"]), None)
    ours, theirs = ("w", "p") if side == "ours" else ("p", "w")
    events = {"w": found["whole"], "p": found["part"]}
    return Hints(
        False, events[ours], events[theirs], found["meter"], found["meter"],
        found[f"{ours}s"], found[f"{theirs}s"], found[f"{ours}q"], found[f"{theirs}q"],
        found[f"{ours}i"], found[f"{theirs}i"], nothing, nothing,
    )  # fmt: skip
