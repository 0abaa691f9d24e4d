"""Missing feeds: a subject, a region or a stretch of time that one side has nothing of.

Each is scored by how much more likely it makes what is missing than the rate at which events are
missing everywhere (in nats); what does not clearly pay for being named is left as it is.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import Any

import numpy

from tallystick.node.comparing.causes.effects import shift_sql
from tallystick.node.comparing.causes.found import Found, Hypothesis
from tallystick.node.comparing.causes.telling import WHO, show_bounds
from tallystick.node.comparing.tables import SIDES, Side, Tables

EVENTS_MIN = 6
SCORE_MIN = 14.0  # nats; a name or a stretch among thousands costs about nine
PRESENT = 0.02  # of the events of a missing feed that are there all the same
STRETCHES_MAX = 4
STILL_THERE = 0.15  # of what a feed had, as events of the side that lacks it: then it is not gone

Numbers = numpy.typing.NDArray[Any]


def explain(tables: Tables, found: Found) -> None:
    """Find the feeds that either side lacks."""
    lost = {
        side: _lost_subjects(tables, side, other) if _any_missing(tables, side) else []
        for side, other in zip(SIDES, reversed(SIDES), strict=True)
    }
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        # subjects that either side alone has may be the same under names that nobody matched
        if not lost[other]:
            for prefix, names in lost[side]:
                _name_subjects(tables, found, side, other, prefix, names)
        if _any_missing(tables, side):
            _stretches(tables, found, side, other)


def _any_missing(tables: Tables, side: Side) -> bool:
    """Whether the side lacks anything that has no cause yet."""
    row = tables.db.execute(
        "SELECT 1 FROM findings WHERE kind = ? AND cause IS NULL LIMIT 1", [_kind(side)]
    ).fetchone()
    return row is not None


def _kind(side: Side) -> str:
    return "missing-here" if side == "ours" else "missing-there"


def _base_rate(missing: int, size: int) -> float:
    return min(max((missing + 0.5) / (size + 1), 0.004), 0.98)


def _gain(missing: int, present: int, rate: float) -> float:
    """How much better a feed that is gone explains these than the rate does."""
    return missing * math.log((1 - PRESENT) / rate) + present * math.log(PRESENT / (1 - rate))


def _lost_subjects(tables: Tables, side: Side, other: Side) -> list[tuple[str, list[str]]]:
    """Regions (a prefix and its subjects) and subjects (no prefix) that only `other` has."""
    kind = "missing-there" if other == "ours" else "missing-here"
    rows = tables.db.execute(
        f"""
        SELECT e.subject, count(DISTINCT e.place),
            count(DISTINCT e.place) FILTER (f.{other} IS NOT NULL)
        FROM (FROM {other} ANTI JOIN (FROM echoes WHERE side = '{other}') USING (event)) e
            LEFT JOIN findings f ON f.{other} = e.event AND f.kind = '{kind}'
            AND f.cause IS NULL
        WHERE e.instant >= {tables.start_us} AND e.instant < {tables.end_us}
        GROUP BY e.subject ORDER BY e.subject
        """
    ).fetchall()
    if not any(lost >= 0.9 * count and lost for _, count, lost in rows):
        return []
    has = dict(
        tables.db.execute(
            f"""SELECT subject, count(DISTINCT place) FROM {side}
            WHERE instant >= {tables.start_us} AND instant < {tables.end_us} GROUP BY subject"""
        ).fetchall()
    )
    size, missing = (sum(row[n] for row in rows) for n in (1, 2))
    fewer = min(1.0, sum(has.values()) / max(size, 1))  # a side of sums has few rows of anything
    gone = {
        name: lost
        for name, count, lost in rows
        if lost >= 0.9 * count and lost > 0 and has.get(name, 0) <= STILL_THERE * count * fewer
    }
    gone_missing = sum(gone.values())
    gone_size = sum(count for name, count, _ in rows if name in gone)
    rate = _base_rate(missing - gone_missing, size - gone_size)
    present = {name: count - lost for name, count, lost in rows}
    found = []
    for prefix, members in _regions([row[0] for row in rows]).items():
        lost = [name for name in members if name in gone]
        score = _gain(sum(gone[n] for n in lost), sum(present[n] for n in members), rate)
        of_region = sum(count for name, count, _ in rows if name in members)
        whole = sum(gone[name] for name in lost) >= 0.95 * of_region
        others = any(row[0] not in gone for row in rows)
        if len(lost) >= 2 and whole and score >= SCORE_MIN and others:
            found.append((prefix, lost))
            for name in lost:
                gone.pop(name)
    for name, lost in list(gone.items()):
        if lost >= EVENTS_MIN and _gain(lost, present[name], rate) >= SCORE_MIN:
            found.append(("", [name]))
    return found


def _regions(names: list[str]) -> dict[str, list[str]]:
    regions = defaultdict(list)
    for name in names:
        head = re.split(r"[-_./:@ ]", name, maxsplit=1)
        if len(head) == 2 and head[0]:
            regions[head[0]].append(name)
    return dict(regions) if len(regions) > 1 else {}


def _name_subjects(
    tables: Tables, found: Found, side: Side, other: Side, prefix: str, names: list[str]
) -> None:
    what = "region" if prefix else "subject"
    facts = {"side": side, "what": what, "name": prefix or names[0]}
    says = f"{WHO[side]} has nothing of {facts['name']}" + (", a region." if prefix else ".")
    number = found.add(Hypothesis("missing-feed", _kind(side), "likely", facts, says))
    tables.db.execute(
        f"""UPDATE findings SET cause = {number} WHERE cause IS NULL AND kind = '{_kind(side)}'
            AND {other} IN (SELECT event FROM {other} WHERE list_contains($names, subject))""",
        {"names": names},
    )


def _stretches(tables: Tables, found: Found, side: Side, other: Side) -> None:
    at, lost = _by_time(tables, side, other)
    if not len(at):
        return
    rate = _base_rate(int(lost.sum()), len(lost))
    taken = numpy.zeros(len(at), bool)
    for _ in range(STRETCHES_MAX):
        first, last, score = _best_stretch(lost & ~taken, taken, rate)
        inside = slice(first, last + 1)
        # what is left over without the stretch tells the rate better
        rest = len(lost) - (last + 1 - first)
        better = _base_rate(int(lost.sum() - lost[inside].sum() - taken.sum()), rest)
        if better < rate:
            rate = better
            first, last, score = _best_stretch(lost & ~taken, taken, rate)
            inside = slice(first, last + 1)
        instants = len(numpy.unique(at[inside][lost[inside]]))
        if score < SCORE_MIN or min(instants, lost[inside].sum()) < EVENTS_MIN:
            return
        taken[inside] |= lost[inside]
        since, until = int(at[first]), int(at[last]) + 1
        if _alone_there(tables, found, side, since, until) <= STILL_THERE * lost[inside].sum():
            _name_stretch(tables, found, side, other, since, until)


def _by_time(tables: Tables, side: Side, other: Side) -> tuple[Numbers, Numbers]:
    """The other side's rows in the period by time, and which of them have no partner."""
    rows = tables.db.execute(
        f"""
        SELECT e.instant, bool_or(f.{other} IS NOT NULL) AS lost, min(e.event) AS event
        FROM {other} e LEFT JOIN findings f ON f.{other} = e.event AND f.kind = '{_kind(side)}'
            AND f.cause IS NULL
        WHERE e.instant >= {tables.start_us} AND e.instant < {tables.end_us}
            AND NOT EXISTS (FROM findings g WHERE g.{other} = e.event AND g.cause IS NOT NULL
                AND g.kind = '{_kind(side)}')
        GROUP BY e.instant, coalesce(e.id, e.place::VARCHAR) ORDER BY e.instant, event
        """
    ).fetchnumpy()
    return rows["instant"], rows["lost"].astype(bool)


def _best_stretch(lost: Numbers, taken: Numbers, rate: float) -> tuple[int, int, float]:
    """The stretch of rows that a missing feed explains best, and by how much."""
    weights = numpy.where(lost, math.log((1 - PRESENT) / rate), math.log(PRESENT / (1 - rate)))
    weights[taken] = -50.0
    sums = numpy.concatenate([[0.0], numpy.cumsum(weights)])
    lowest = numpy.minimum.accumulate(sums)
    last = int(numpy.argmax(sums[1:] - lowest[:-1]))
    first = int(numpy.argmin(sums[: last + 1]))
    return first, last, float(sums[last + 1] - sums[first])


def _alone_there(tables: Tables, found: Found, side: Side, since: int, until: int) -> int:
    """How many rows without a partner the side has itself, in what is the stretch by its clock."""
    kinds = f"'{'missing-there' if side == 'ours' else 'missing-here'}', 'duplicate'"
    at = "oat" if side == "ours" else "tat"
    shift = shift_sql(found, at, at)
    moved = f"({at} - {shift})" if side == "ours" else f"({at} + {shift})"
    (count,) = tables.db.execute(
        f"""SELECT count(DISTINCT coalesce(op, tp)) FROM findings
        WHERE kind IN ({kinds}) AND cause IS NULL AND {side} IS NOT NULL
            AND {moved} >= {since} AND {moved} < {until}"""
    ).fetchone()  # type: ignore[misc]
    return int(count)


def _name_stretch(
    tables: Tables, found: Found, side: Side, other: Side, since: int, until: int
) -> None:
    first, last = show_bounds(since, until)
    facts = {"side": side, "what": "time", "from": first, "until": last}
    says = f"{WHO[side]} has nothing from {facts['from']} until {facts['until']}."
    number = found.add(Hypothesis("missing-feed", _kind(side), "likely", facts, says))
    tables.db.execute(
        f"""UPDATE findings SET cause = {number} WHERE cause IS NULL AND kind = '{_kind(side)}'
            AND {"oat" if other == "ours" else "tat"} >= {since}
            AND {"oat" if other == "ours" else "tat"} < {until}"""
    )
