"""Totals: the findings summed up, exactly, by meter, class and cause."""

from __future__ import annotations

from collections import defaultdict

from tallystick.node.comparing.causes.found import Found
from tallystick.node.comparing.findings import Findings
from tallystick.protocol.compare import (
    CLASSES,
    Cause,
    ClassTotal,
    MeterComparison,
    cause_of_maximum,
    judge,
    ordered_causes,
)
from tallystick.protocol.records import Meter, Role

_Bucket = tuple[str, int | None]  # a class and a cause in it


def summed_up(
    tables: Findings, found: Found, our_role: Role
) -> tuple[list[MeterComparison], list[Cause]]:
    """Each meter's comparison, and the causes in their order, numbered in `findings` as well."""
    comparisons, causes = [], []
    numbers: dict[int, tuple[int, str, str]] = {}
    for meter in tables.meters.values():
        ours, count = tables.total("ours", meter)
        theirs, deltas = tables.total("theirs", meter)
        within, rule = judge(meter, ours, theirs, our_role, max(count, deltas))
        buckets = _buckets(tables, meter, ours - theirs)
        classes: dict[str, ClassTotal] = {}
        for kind in CLASSES:
            parts = [part for (klass, _), part in buckets.items() if klass == kind]
            if parts:
                quantity = sum(part.quantity for part in parts)
                classes[kind] = ClassTotal(quantity, sum(part.events for part in parts))
        scale = 0 if meter.aggregate == "count" else meter.scale
        comparisons.append(
            MeterComparison(meter.name, meter.unit, scale, ours, theirs, classes, within, rule)
        )
        for cause, number, klass in _causes(found, meter, buckets):
            causes.append(cause)
            numbers[id(cause)] = number, meter.name, klass
    ordered = ordered_causes(causes, comparisons)
    tables.db.execute(
        "CREATE OR REPLACE TABLE cause_numbers"
        " (cause INTEGER, meter VARCHAR, kind VARCHAR, number INTEGER)"
    )
    for place, cause in enumerate(ordered, 1):
        tables.db.execute(
            "INSERT INTO cause_numbers VALUES (?, ?, ?, ?)", [*numbers[id(cause)], place]
        )
    return comparisons, ordered


def _causes(
    found: Found, meter: Meter, buckets: dict[_Bucket, ClassTotal]
) -> list[tuple[Cause, int, str]]:
    made = []
    for number, cause in enumerate(found.causes):
        parts = {klass: part for (klass, n), part in buckets.items() if n == number}
        if not parts and meter.name in cause.meters:
            parts = {cause.klass: ClassTotal(0, cause.events)}
        for klass, part in parts.items():
            told = Cause(
                cause.kind, meter.name, klass, part.quantity, part.events,
                cause.confidence, cause.facts, cause.says,
            )  # fmt: skip
            made.append((told, number, klass))
    return made


def _buckets(tables: Findings, meter: Meter, gap: int) -> dict[_Bucket, ClassTotal]:
    rows = tables.db.execute(
        "SELECT kind, cause, sum(effect), count(*) FROM findings WHERE meter = ? GROUP BY ALL",
        [meter.name],
    ).fetchall()
    rows.sort(key=lambda row: (CLASSES.index(row[0]), -1 if row[1] is None else row[1]))
    buckets = {(kind, cause): ClassTotal(int(q), int(n)) for kind, cause, q, n in rows}
    if meter.aggregate != "max":
        explained = sum(part.quantity for part in buckets.values())
        if explained != gap:
            raise AssertionError(f"{meter.name}: {explained} is explained of {gap}")
        return buckets
    lone = _lone_bucket(tables, meter)
    return {
        bucket: ClassTotal(gap if bucket == lone else 0, part.events)
        for bucket, part in buckets.items()
    }


def _lone_bucket(tables: Findings, meter: Meter) -> _Bucket | None:
    """Of a maximum: the class, and the cause in it, without which both sides' were equal."""
    by_class = cause_of_maximum(*_maxima(tables, meter, "kind"))
    if by_class is None:
        return None
    by_cause = cause_of_maximum(
        *_maxima(tables, meter, f"CASE WHEN kind = '{by_class}' THEN coalesce(cause, -1)::VARCHAR"
                 " ELSE 'other' END")
    )  # fmt: skip
    if by_cause in (None, "other"):
        parts = _parts_of(tables, meter, by_class)
        return by_class, parts[0]
    number = int(by_cause)
    return by_class, None if number < 0 else number


def _parts_of(tables: Findings, meter: Meter, kind: str) -> list[int | None]:
    rows = tables.db.execute(
        "SELECT DISTINCT cause FROM findings WHERE meter = ? AND kind = ?"
        " ORDER BY cause NULLS FIRST",
        [meter.name, kind],
    ).fetchall()
    return [row[0] for row in rows]


def _maxima(tables: Findings, meter: Meter, bucket: str) -> tuple[dict[str, int], dict[str, int]]:
    """Each side's highest quantity in the period, by bucket; "" is what both sides have."""
    inside = f"{{0}} >= {tables.start_us} AND {{0}} < {tables.end_us}"
    agreed = tables.db.execute(
        f"""SELECT '', max(quantity) FROM ours o ANTI JOIN findings f ON f.ours = o.event
        WHERE o.meter = ? AND {inside.format("instant")} HAVING count(*) > 0""",
        [meter.name],
    ).fetchall()
    sides: list[dict[str, int]] = [defaultdict(int), defaultdict(int)]
    for side, quantity, instant in ((0, "oq", "oat"), (1, "tq", "tat")):
        found = tables.db.execute(
            f"""SELECT {bucket}, max({quantity}) FROM findings
            WHERE meter = ? AND {inside.format(instant)} GROUP BY 1""",
            [meter.name],
        ).fetchall()
        sides[side] = dict(agreed + found)
    return sides[0], sides[1]
