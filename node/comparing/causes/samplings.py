"""Sampling: a side that notes one in so many, whatever the subject and the hour."""

from __future__ import annotations

import math

from tallystick.node.comparing.causes.found import Found, Hypothesis
from tallystick.node.comparing.causes.telling import WHO
from tallystick.node.comparing.tables import SIDES, Side, Tables

ROWS_MIN = 60
SHARE_MIN = 0.4  # missing; less is a loss and no sample
SIGMAS = 4.0
ALONE_MAX = 0.1  # of the sampling side's events; more without a partner is no sample
PARTS = 6  # of the period, and as many of the largest subjects, which must all be alike


def explain(tables: Tables, found: Found) -> None:
    """Name the side that samples."""
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        kind = "missing-here" if side == "ours" else "missing-there"
        if not _any_lost(tables, other, kind):
            continue
        length = (tables.end_us - tables.start_us) // PARTS + 1
        tables.db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE sampled AS
            SELECT e.subject, (e.instant - {tables.start_us}) // {length} AS part,
                bool_or(f.{other} IS NOT NULL AND f.cause IS NULL) AS lost
            FROM {other} e LEFT JOIN findings f ON f.{other} = e.event
                AND f.kind IN ('{kind}', 'duplicate', 'timing')
            WHERE e.instant >= {tables.start_us} AND e.instant < {tables.end_us}
                AND NOT EXISTS (FROM riders r WHERE r.side = '{other}' AND r.event = e.event)
            GROUP BY e.subject, part, coalesce(e.id, e.place::VARCHAR)
            HAVING bool_and(f.cause IS NULL)
            """
        )
        size, lost = _counts(tables, "")[0]
        rate = _rate(size, lost)
        groups = _counts(tables, "GROUP BY part") + _counts(
            tables, f"GROUP BY subject ORDER BY count(*) DESC LIMIT {PARTS}"
        )
        if rate is None or not all(_alike(n, gone, lost / size) for n, gone in groups):
            continue
        if _own_share(tables, side) > ALONE_MAX:
            continue
        facts = {"side": side, "rate": str(rate)}
        says = f"{WHO[side]} keeps one event in {rate}, whatever the subject and the hour."
        number = found.add(Hypothesis("sampling", kind, "likely", facts, says))
        tables.db.execute(
            f"UPDATE findings SET cause = {number} WHERE cause IS NULL AND kind = '{kind}'"
        )


def _any_lost(tables: Tables, other: Side, kind: str) -> bool:
    row = tables.db.execute(
        f"""SELECT 1 FROM findings WHERE kind IN ('{kind}', 'duplicate', 'timing')
        AND cause IS NULL AND {other} IS NOT NULL LIMIT 1"""
    ).fetchone()
    return row is not None


def _counts(tables: Tables, grouped: str) -> list[tuple[int, int]]:
    return tables.db.execute(
        f"SELECT count(*), count(*) FILTER (lost) FROM sampled {grouped}"
    ).fetchall()


def _own_share(tables: Tables, side: Side) -> float:
    """Which part of its own events, too, the side that would sample is alone with."""
    kind = "missing-there" if side == "ours" else "missing-here"
    size, lone = tables.db.execute(
        f"""SELECT count(*), count(f.{side}) FROM {side} e
        LEFT JOIN findings f ON f.{side} = e.event AND f.kind = '{kind}' AND f.cause IS NULL
        WHERE e.instant >= {tables.start_us} AND e.instant < {tables.end_us}"""
    ).fetchone()  # type: ignore[misc]
    return float(lone / max(size, 1))


def _rate(size: int, lost: int) -> int | None:
    """One in how many is kept, if the counts say so clearly."""
    if size < ROWS_MIN or lost < SHARE_MIN * size or lost == size:
        return None
    kept = 1 - lost / size
    rate = round(1 / kept)
    sigma = math.sqrt((1 / rate) * (1 - 1 / rate) / size)
    return rate if rate > 1 and abs(kept - 1 / rate) <= SIGMAS * sigma + 0.01 / rate else None


def _alike(size: int, lost: int, share: float) -> bool:
    return abs(lost - share * size) <= SIGMAS * math.sqrt(size * share * (1 - share)) + 1
