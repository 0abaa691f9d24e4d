"""Profiles: subjects that only one side names, recognised by what they use when.

A profile is a subject's quantities over the period in slices. Two that are mutually the most alike,
clearly more than any other, are one subject under two names; so are one and the sum of two others.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy

from tallystick.node.comparing.causes.names import Renaming
from tallystick.node.comparing.tables import Side, Tables

SLICES = (96, 28, 8)  # of the period: finer ones first, coarser ones for sums and lags
PAIRS = 0  # that hints have of such a subject
ALIKE_MIN = 0.9  # of two profiles, as a cosine
SUM_ALIKE_MIN = 0.97
CLEARLY = 0.4  # what is missing to 1, of what the next best misses
SPLIT_NAMES_MAX = 40

Numbers = numpy.typing.NDArray[Any]


def match_profiles(tables: Tables, shift_sql: str) -> list[Renaming]:
    """The renamings among subjects that only one side has, by the quantities of the meter that both
    sides have most events of.

    `shift_sql` is by how much our clock is ahead, over `instant`.
    """
    row = tables.db.execute(
        """SELECT as_meter FROM (SELECT as_meter, count(*) AS n FROM ours_as GROUP BY 1)
        JOIN (SELECT as_meter, count(*) AS m FROM theirs_as GROUP BY 1) USING (as_meter)
        ORDER BY least(n, m) DESC, as_meter LIMIT 1"""
    ).fetchone()
    if row is None:
        return []
    lonely = {
        side: f"SELECT as_subject FROM {side}_as EXCEPT SELECT as_subject FROM {other}_as"
        for side, other in (("ours", "theirs"), ("theirs", "ours"))
    }
    found: list[Renaming] = []
    for slices in SLICES:
        moved = f"instant + {shift_sql}"
        theirs = _profiles(tables, "theirs", lonely["theirs"], row[0], moved, slices)
        ours = _profiles(tables, "ours", lonely["ours"], row[0], "instant", slices)
        known = {(side, name) for one in found for side, names in
            (("theirs", one.theirs), ("ours", one.ours)) for name in names}  # fmt: skip
        theirs = {name: p for name, p in theirs.items() if ("theirs", name) not in known}
        ours = {name: p for name, p in ours.items() if ("ours", name) not in known}
        if theirs and ours:
            found += _matched(theirs, ours)
    return found


def _profiles(
    tables: Tables, side: Side, lonely: str, meter: str, instant: str, slices: int
) -> dict[str, Numbers]:
    """What each subject of one side alone uses in each slice of the period."""
    length = max((tables.end_us - tables.start_us) // slices, 1)
    rows = tables.db.execute(
        f"""
        SELECT as_subject, (({instant}) - {tables.start_us}) // {length} AS slice,
            sum(as_quantity::DOUBLE)
        FROM {side}_as WHERE as_meter = ? AND as_subject IN ({lonely})
            AND ({instant}) BETWEEN {tables.start_us} AND {tables.end_us}
        GROUP BY ALL ORDER BY ALL
        """,
        [meter],
    ).fetchall()
    found: dict[str, Numbers] = {}
    for subject, place, quantity in rows:
        profile = found.setdefault(subject, numpy.zeros(slices + 1))
        profile[min(max(int(place), 0), slices)] += quantity
    return found


def _matched(theirs: dict[str, Numbers], ours: dict[str, Numbers]) -> list[Renaming]:
    found = _one_to_one(theirs, ours)
    for renaming in found:
        theirs = {name: p for name, p in theirs.items() if name not in renaming.theirs}
        ours = {name: p for name, p in ours.items() if name not in renaming.ours}
    for wholes, parts, turned in ((theirs, ours, False), (ours, theirs, True)):
        if len(parts) > SPLIT_NAMES_MAX:
            continue
        for name in list(wholes):
            best = max(
                combinations(sorted(parts), 2),
                key=lambda two: _cosine(wholes[name], parts[two[0]] + parts[two[1]]),
                default=None,
            )
            if best is None:
                continue
            alike = _cosine(wholes[name], parts[best[0]] + parts[best[1]])
            lone = max(_cosine(wholes[name], parts[part]) for part in best)
            if alike >= SUM_ALIKE_MIN and 1 - alike <= CLEARLY * (1 - lone):
                there, here = (best, (name,)) if turned else ((name,), best)
                found.append(Renaming(there, here, PAIRS))
                wholes.pop(name)
                for part in best:
                    parts.pop(part)
    return found


def _one_to_one(theirs: dict[str, Numbers], ours: dict[str, Numbers]) -> list[Renaming]:
    names_t, names_o = sorted(theirs), sorted(ours)
    alike = numpy.array([[_cosine(theirs[t], ours[o]) for o in names_o] for t in names_t])
    found = []
    for row, name in enumerate(names_t):
        column = int(numpy.argmax(alike[row]))
        best = alike[row, column]
        if best < ALIKE_MIN or int(numpy.argmax(alike[:, column])) != row:
            continue
        others = [*numpy.delete(alike[row], column), *numpy.delete(alike[:, column], row), 0.0]
        if 1 - best <= CLEARLY * (1 - max(others)):
            found.append(Renaming((name,), (names_o[column],), PAIRS))
    return found


def _cosine(a: Numbers, b: Numbers) -> float:
    size = float(numpy.linalg.norm(a) * numpy.linalg.norm(b))
    return float(a @ b) / size if size else 0.0
