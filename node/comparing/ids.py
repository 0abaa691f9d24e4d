"""Pairing by id: the one way that is certain, where ids mean the same on both sides.

What a side has under an id again is aside or numbered by now (`causes.preparing`), so an id has one
event a side. A meter's ids count for nothing if no id of one side is there on the other, or
if those that are there name other events: most of them differ in time or quantity, while more than
twice as many as agree have an equal event under some other id (rows that were numbered, say).
"""

from __future__ import annotations

from tallystick.node.comparing.tables import SIDES, Side, Tables

SUSPECT_MIN = 10  # so few pairs by id are not doubted


def pair_ids(tables: Tables) -> None:
    """Make `pairs` of what has the same id, and `named`, the meters whose ids count."""
    tables.db.execute(
        """
        CREATE TABLE pairs (ours BIGINT, theirs BIGINT, step VARCHAR, confidence VARCHAR);
        CREATE TABLE groups
            (side VARCHAR, whole BIGINT, part BIGINT, step VARCHAR, confidence VARCHAR);
        CREATE TABLE named (meter VARCHAR);
        """
    )
    if all(_has_ids(tables, side) for side in SIDES):
        tables.db.execute(
            """
            CREATE TEMP TABLE by_id AS
            SELECT o.event AS ours, t.event AS theirs, o.as_meter AS meter,
                coalesce(o.as_quantity = t.as_quantity
                    AND abs(o.as_instant - t.as_instant) <= reach, false) AS agree
            FROM ours_as o JOIN theirs_as t ON o.as_meter = t.as_meter AND o.id = t.id
                JOIN kinds ON kinds.meter = o.as_meter
            """
        )
        _name_meters(tables)
        tables.db.execute(
            """
            INSERT INTO pairs SELECT ours, theirs, 'id', 'certain'
            FROM by_id SEMI JOIN named USING (meter);
            DROP TABLE by_id
            """
        )


def _has_ids(tables: Tables, side: Side) -> bool:
    return bool(tables.db.execute(f"SELECT 1 FROM {side} WHERE id IS NOT NULL LIMIT 1").fetchall())


def _name_meters(tables: Tables) -> None:
    """Fill `named` with the meters of which ids name the same events on both sides."""
    found = tables.db.execute(
        "SELECT meter, count(*), count(*) FILTER (agree) FROM by_id GROUP BY meter"
    ).fetchall()
    for meter, pairs, agree in found:
        differ = pairs - agree
        if pairs < SUSPECT_MIN or differ <= agree or 2 * _elsewhere(tables, meter) < differ:
            tables.db.execute("INSERT INTO named VALUES (?)", [meter])


def _elsewhere(tables: Tables, meter: str) -> int:
    """How many of our events that differ from the one of their id have an equal one elsewhere."""
    found = tables.db.execute(
        """SELECT count(*) FROM (
            SELECT as_subject, as_quantity, as_instant
            FROM by_id JOIN ours_as ON event = ours WHERE by_id.meter = $meter AND NOT agree
        ) SEMI JOIN (FROM theirs_as WHERE as_meter = $meter)
        USING (as_subject, as_quantity, as_instant)""",
        {"meter": meter},
    ).fetchone()
    return int(found[0]) if found else 0
