"""Pairing by id: the one way that is certain, where ids mean the same on both sides.

An id of which a side has several events pairs one with one, as closely as can be; what is over on
our side is a copy. A meter's ids count for nothing if no id of one side is there on the other, or
if those that are there name other events: most of them differ in time or quantity, while more than
twice as many as agree have an equal event under some other id (rows that were numbered, say).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pyarrow

from tallystick.node.comparing.assignment import assign
from tallystick.node.comparing.tables import SIDES, Side, Tables

SUSPECT_MIN = 10  # so few pairs by id are not doubted
CELLS_MAX = 4096  # an id with more combinations than this is paired in order
FETCH_ROWS = 50_000

_PAIRS = pyarrow.schema(
    [("ours", pyarrow.int64()), ("theirs", pyarrow.int64()), ("meter", pyarrow.string())]
)


def pair_ids(tables: Tables) -> None:
    """Make `pairs` of what has the same id; `named`, the meters whose ids count; and `copies`, our
    other events of an id there that has a pair or another event.
    """
    tables.db.execute(
        """
        CREATE TABLE pairs (ours BIGINT, theirs BIGINT, step VARCHAR, confidence VARCHAR);
        CREATE TABLE groups
            (side VARCHAR, whole BIGINT, part BIGINT, step VARCHAR, confidence VARCHAR);
        CREATE TABLE named (meter VARCHAR);
        CREATE TABLE copies (event BIGINT);
        """
    )
    if all(_has_ids(tables, side) for side in SIDES):
        _find_repeated(tables)
        _join_ids(tables)
        _name_meters(tables)
        _pair_named(tables)
        _find_copies(tables)


def _has_ids(tables: Tables, side: Side) -> bool:
    return bool(tables.db.execute(f"SELECT 1 FROM {side} WHERE id IS NOT NULL LIMIT 1").fetchall())


def _find_repeated(tables: Tables) -> None:
    """Make `repeated`: the ids that one side has several events of, and how many each has."""
    counted = "SELECT as_meter, id, count(*) AS n FROM {}_as WHERE id IS NOT NULL GROUP BY ALL"
    tables.db.execute(
        f"""
        CREATE TEMP TABLE repeated AS
        SELECT as_meter, id, coalesce(o.n, 1) * coalesce(t.n, 1) AS cells
        FROM ({counted.format("ours")} HAVING count(*) > 1) o
            FULL JOIN ({counted.format("theirs")} HAVING count(*) > 1) t USING (as_meter, id)
        """
    )


def _join_ids(tables: Tables) -> None:
    """Make `by_id` of ids with one event a side, and `several` of the others."""
    tables.db.execute(
        f"""
        CREATE TEMP TABLE by_id AS
        SELECT o.event AS ours, t.event AS theirs, o.as_meter AS meter,
            coalesce(o.as_quantity = t.as_quantity
                AND abs(o.as_instant - t.as_instant) <= reach, false) AS agree
        FROM (FROM ours_as ANTI JOIN repeated USING (as_meter, id)) o
            JOIN theirs_as t ON o.as_meter = t.as_meter AND o.id = t.id
            JOIN kinds ON kinds.meter = o.as_meter;
        CREATE TABLE several AS
        SELECT o.event AS ours, t.event AS theirs, o.as_meter AS meter, o.id
        FROM ours_as o JOIN theirs_as t ON o.as_meter = t.as_meter AND o.id = t.id
            JOIN repeated r ON r.as_meter = o.as_meter AND r.id = o.id AND cells <= {CELLS_MAX};
        CREATE TEMP TABLE crowded AS
        WITH o AS (FROM {_ranked("ours")}), t AS (FROM {_ranked("theirs")})
        SELECT o.event AS ours, t.event AS theirs, as_meter AS meter
        FROM o JOIN t USING (as_meter, id, copy)
        """
    )


def _ranked(side: Side) -> str:
    """The events of ids with too many combinations, numbered in order."""
    return f"""(SELECT event, as_meter, id, row_number() OVER (PARTITION BY as_meter, id
            ORDER BY instant, quantity, subject, place) AS copy
        FROM {side}_as SEMI JOIN (FROM repeated WHERE cells > {CELLS_MAX}) USING (as_meter, id))"""


def _name_meters(tables: Tables) -> None:
    """Fill `named` with the meters of which ids name the same events on both sides."""
    found = tables.db.execute(
        """SELECT meter, count(*) FILTER (agree IS NOT NULL), count(*) FILTER (agree)
        FROM (SELECT meter, agree FROM by_id UNION ALL SELECT meter, NULL FROM several
            UNION ALL SELECT meter, NULL FROM crowded) GROUP BY meter"""
    ).fetchall()
    for meter, pairs, agree in found:
        differ = pairs - agree
        if pairs < SUSPECT_MIN or differ <= agree or 2 * _elsewhere(tables, meter) < differ:
            tables.db.execute("INSERT INTO named VALUES (?)", [meter])


def _pair_named(tables: Tables) -> None:
    tables.db.execute(
        """
        CREATE TEMP TABLE closest (ours BIGINT, theirs BIGINT, meter VARCHAR);
        INSERT INTO closest FROM crowded;
        """
    )
    _pair_several(tables)
    tables.db.execute(
        """
        INSERT INTO pairs SELECT ours, theirs, 'id', 'certain'
        FROM (SELECT ours, theirs, meter FROM by_id UNION ALL FROM closest)
            SEMI JOIN named USING (meter);
        DROP TABLE by_id; DROP TABLE several; DROP TABLE crowded; DROP TABLE closest;
        """
    )


def _find_copies(tables: Tables) -> None:
    """Fill `copies`: of an id that has several of our events, all but the one that counts."""
    tables.db.execute(
        """
        CREATE TEMP TABLE again AS
        SELECT event, as_meter, id, pairs.ours IS NOT NULL AS paired,
            row_number() OVER (PARTITION BY as_meter, id
                ORDER BY pairs.ours IS NULL, instant, quantity, subject, place) AS copy
        FROM (FROM ours_as SEMI JOIN repeated USING (as_meter, id)) o
            LEFT JOIN pairs ON o.event = pairs.ours
        WHERE as_meter IN (SELECT meter FROM named);
        INSERT INTO copies SELECT event FROM again WHERE copy > 1 AND NOT paired;
        DROP TABLE again; DROP TABLE repeated;
        """
    )


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


def _pair_several(tables: Tables) -> None:
    """Pair the events of each id that some side has several of: by quantity, then by time."""
    pairs: list[tuple[int, int, str]] = []
    for _, group in groupby(_candidates(tables), key=lambda row: row[0]):
        rows = list(group)
        ours, theirs = (list(dict.fromkeys(row[side] for row in rows)) for side in (2, 3))
        # Numbered by the order they come in: no number of a row decides.
        costs = {
            (ours.index(row[2]), theirs.index(row[3])): (row[4] << 64) + row[5] for row in rows
        }
        pairs += [(ours[i], theirs[j], rows[0][1]) for i, j in assign(costs).items()]
        if len(pairs) >= FETCH_ROWS:
            tables.insert("closest", _PAIRS, list(zip(*pairs, strict=True)))
            pairs.clear()
    if pairs:
        tables.insert("closest", _PAIRS, list(zip(*pairs, strict=True)))


def _candidates(tables: Tables) -> Iterator[tuple[Any, ...]]:
    """A number for each id, and the possible pairs of its events with what they differ by."""
    with tables.db.cursor() as cursor:
        cursor.execute(
            """
            SELECT dense_rank() OVER (ORDER BY s.meter, s.id), s.meter, ours, theirs,
                abs(coalesce(o.as_quantity::HUGEINT - t.as_quantity, 0)),
                abs(coalesce(o.as_instant::HUGEINT - t.as_instant, 0))
            FROM several s JOIN ours_as o ON o.event = ours JOIN theirs_as t ON t.event = theirs
            ORDER BY 1, o.instant, o.quantity, o.subject, o.place,
                t.instant, t.quantity, t.subject, t.place
            """
        )
        while rows := cursor.fetchmany(FETCH_ROWS):
            yield from rows
