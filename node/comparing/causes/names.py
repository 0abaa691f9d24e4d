"""Names that differ: subjects and meters that the other side calls otherwise, split or merged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tallystick.node.comparing.causes.hints import Hints
from tallystick.node.comparing.tables import SIDES, Side, Tables

PAIRS_MIN = 5  # fewer pairs under two names are accidents
SHARE_MIN = 0.05  # of a name's pairs, for each name that it is split into


@dataclass(frozen=True, slots=True)
class Renaming:
    """Their names and ours of the same thing. `pairs` of the hints say so."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    pairs: int

    @property
    def form(self) -> str:
        """How many became how many."""
        one_there, one_here = len(self.theirs) == 1, len(self.ours) == 1
        if one_there and one_here:
            return "one to one"
        return "split" if one_there else "merged" if one_here else "regrouped"


def subject_names(hints: Hints) -> list[Renaming]:
    """The subjects that have other names here than there."""
    return _renamings(zip(hints.their_subjects, hints.our_subjects, strict=True))


def meter_names(hints: Hints) -> list[Renaming]:
    """The meters that have other names here than there."""
    return _renamings(zip(hints.their_meters, hints.our_meters, strict=True))


def _renamings(pairs: Iterable[tuple[str, str]]) -> list[Renaming]:
    counts = Counter(pairs)
    if all(there == here for there, here in counts):
        return []
    edges = _kept(counts)
    found = []
    for theirs, ours in _components(edges):
        if theirs != ours or len(theirs) > 1:
            support = sum(
                n for (there, here), n in edges.items() if there in theirs and there != here
            )
            found.append(Renaming(tuple(sorted(theirs)), tuple(sorted(ours)), support))
    return found


def _kept(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """The names that go together too often to be accidents."""
    per_name: Counter[str] = Counter()
    for (there, _), count in counts.items():
        per_name[there] += count
    return {
        (there, here): count
        for (there, here), count in counts.items()
        if there == here or (count >= PAIRS_MIN and count >= SHARE_MIN * per_name[there])
    }


def _components(edges: Iterable[tuple[str, str]]) -> list[tuple[set[str], set[str]]]:
    """Sets of names that are connected, their side and ours."""
    towards: dict[tuple[int, str], set[tuple[int, str]]] = defaultdict(set)
    for there, here in edges:
        towards[0, there].add((1, here))
        towards[1, here].add((0, there))
    seen: set[tuple[int, str]] = set()
    found = []
    for node in sorted(towards):
        if node in seen:
            continue
        component, waiting = set(), [node]
        while waiting:
            name = waiting.pop()
            if name not in component:
                component.add(name)
                waiting += towards[name]
        seen |= component
        found.append(({n for s, n in component if s == 0}, {n for s, n in component if s == 1}))
    return found


@dataclass(frozen=True, slots=True)
class MeterNames:
    """A meter that one side has under another name, or a part of it under a name of its own.

    `name` is the meter that both have or, of one to one, theirs; `other` is the additional name, on
    `side`.
    """

    side: Side
    name: str
    other: str
    form: str  # one to one, or split
    rows: int


def find_meter_names(tables: Tables) -> list[MeterNames]:
    """The meters of only one side that are the other's under another name, or a part of it."""
    counts: dict[str, dict[str, int]] = {side: {} for side in SIDES}
    for side in SIDES:
        found = tables.db.execute(f"SELECT meter, count(*) FROM {side} GROUP BY meter").fetchall()
        counts[side] = dict(found)
    here = set(counts["ours"]) - set(counts["theirs"])
    there = set(counts["theirs"]) - set(counts["ours"])
    found_names = []
    for ours in sorted(here):
        for theirs in sorted(there):
            few = min(counts["ours"][ours], counts["theirs"][theirs])
            alike = tables.meters[ours].scale == tables.meters[theirs].scale
            if alike and few >= PAIRS_MIN and len(here) == len(there) == 1:
                found_names.append(MeterNames("ours", theirs, ours, "one to one", few))
    if not found_names:
        for side, names in (("ours", here), ("theirs", there)):
            for name in sorted(names):
                found_names += _split_of(tables, side, name, counts)
    return found_names


def _split_of(
    tables: Tables, side: Side, name: str, counts: Mapping[str, Mapping[str, int]]
) -> list[MeterNames]:
    """The meter of which an additional one is a part: in the same rows, and adding up."""
    meter = tables.meters[name]
    best: tuple[float, MeterNames] | None = None
    for base in sorted(set(counts["ours"]) & set(counts["theirs"])):
        whole = tables.meters[base]
        if (whole.scale, whole.unit, whole.aggregate) != (meter.scale, meter.unit, "sum"):
            continue
        rows, alone, carried, total = tables.db.execute(
            f"""
            SELECT count(*) FILTER (r.event IS NOT NULL),
                (SELECT count(*) FROM {side} WHERE meter = $name),
                coalesce(sum(r.quantity::HUGEINT), 0),
                coalesce(sum(b.quantity::HUGEINT), 0)
            FROM {side} b LEFT JOIN {side} r ON r.meter = $name AND {_SAME_ROW}
            WHERE b.meter = $base
            """,
            {"name": name, "base": base},
        ).fetchone()  # type: ignore[misc]
        if rows < max(PAIRS_MIN, 0.9 * alone):
            continue
        if not total:
            continue
        likeness = _spread_with(tables, side, name, base)
        if likeness is None:
            other = SIDES[1 - SIDES.index(side)]
            (wanted,) = tables.db.execute(
                f"SELECT coalesce(sum(quantity::HUGEINT), 0) FROM {other} WHERE meter = ?", [base]
            ).fetchone()  # type: ignore[misc]
            if not wanted or total >= 0.97 * wanted:
                continue
            likeness = abs((total + carried) / wanted - 1)
        if best is None or likeness < best[0]:
            best = likeness, MeterNames(side, base, name, "split", rows)
    return [best[1]] if best else []


def _spread_with(tables: Tables, side: Side, name: str, base: str) -> float | None:
    """How much the ratio of both sides' quantities of the same id varies with the part added, as a
    share of how it varies without; None if there are too few such ids.
    """
    other = SIDES[1 - SIDES.index(side)]
    pairs, added, without = tables.db.execute(
        f"""
        SELECT count(*), mad(ln((b.quantity + r.quantity) / o.quantity)),
            mad(ln(b.quantity / o.quantity))
        FROM (FROM {side} WHERE meter = $base AND quantity > 0 LIMIT 20000) b
            JOIN {side} r ON r.meter = $name AND {_SAME_ROW} AND r.quantity > 0
            JOIN {other} o ON o.meter = $base AND o.id = b.id AND o.quantity > 0
        """,
        {"name": name, "base": base},
    ).fetchone()  # type: ignore[misc]
    if pairs < PAIRS_MIN:
        return None
    return float(added) / float(without) if without else 1e9


_SAME_ROW = """CASE WHEN b.id IS NOT NULL THEN r.id = b.id
    ELSE r.id IS NULL AND r.place = b.place END AND r.subject = b.subject"""


def set_riders_aside(tables: Tables, names: Iterable[MeterNames]) -> None:
    """Make `riders`: events that are the part of another, their carrier, that has its own meter."""
    tables.db.execute("CREATE TABLE riders (side VARCHAR, event BIGINT, carrier BIGINT)")
    for split in names:
        if split.form == "split":
            tables.db.execute(
                f"""
                INSERT INTO riders SELECT '{split.side}', r.event, min(b.event)
                FROM {split.side} b JOIN {split.side} r ON {_SAME_ROW}
                    AND r.instant = b.instant
                WHERE b.meter = $base AND r.meter = $name GROUP BY r.event
                """,
                {"base": split.name, "name": split.other},
            )
    tables.db.execute(
        """
        CREATE TABLE carried AS
        SELECT r.side, r.carrier, sum(e.quantity::HUGEINT) AS more FROM riders r
        JOIN (SELECT 'ours' AS side, event, quantity FROM ours UNION ALL
            SELECT 'theirs', event, quantity FROM theirs) e USING (side, event) GROUP BY ALL
        """
    )
