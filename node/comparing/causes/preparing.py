"""Preparing: ids without their attempts, copies aside, and a sample of both sides to guess from.

An id such as `req-7-r1` is an attempt of `req-7` if that is an id too, and if its side has the same
event under all ids of this request: `conv-7-2`, say, is the second turn of `conv-7` and not a
second attempt. Of an id that a side has more often than the other, what is over is a copy: it is in
`echoes` and not shown to pairing. Of an id that only one side has, a copy is what is there again
with the same quantity.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.node.comparing.tables import SIDES, Side, Tables

SAMPLE_ROWS = 300_000  # of each side; guesses need no more

_ATTEMPT = (
    r"[-_./:~#](?:(?:r|a|re|retry|attempt|att|try|dup|copy)?[-_]?\d{1,2}"
    r"|retry|dup|copy|again|[a-f])$"
)


def strip_attempts(tables: Tables) -> None:
    """Make `attempts`: side, event and the id without its attempt, where that is an id too."""
    tables.db.execute(
        "CREATE TABLE attempts (side VARCHAR, event BIGINT, base VARCHAR);"
        "CREATE TABLE echoes (side VARCHAR, event BIGINT, first BIGINT, form VARCHAR);"
        "CREATE TABLE numbered (side VARCHAR, event BIGINT, id VARCHAR)"
    )
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        tables.db.execute(
            f"""
            INSERT INTO attempts
            SELECT $side, event, base FROM (
                SELECT event, id, meter, regexp_replace(id, $attempt, '') AS base FROM {side}
                WHERE regexp_matches(id, $attempt)) s
            WHERE base <> '' AND NOT EXISTS (FROM {other} x WHERE x.id = s.id)
                AND (EXISTS (FROM {side} x WHERE x.id = s.base)
                    OR EXISTS (FROM {other} x WHERE x.id = s.base))
            """,
            {"side": side, "attempt": _ATTEMPT},
        )
        tables.db.execute(
            f"""
            DELETE FROM attempts WHERE side = '{side}' AND event IN (
                SELECT event FROM (
                    SELECT e.event, a.base, first_value(e.subject) OVER w <> subject
                        OR first_value(e.quantity) OVER w <> quantity AS differs
                    FROM {side} e LEFT JOIN attempts a ON a.side = '{side}' AND a.event = e.event
                    WHERE coalesce(a.base, e.id) IN (
                        SELECT base FROM attempts WHERE side = '{side}')
                    WINDOW w AS (PARTITION BY meter, coalesce(a.base, e.id)
                        ORDER BY a.base IS NOT NULL, place, e.event))
                WHERE differs AND base IS NOT NULL)
            """
        )


def set_copies_aside(tables: Tables, meters: Mapping[Side, str]) -> None:
    """Make `echoes`, and number what both sides have several of, so that each finds its like.

    `meters` are expressions over `meter` for the name that pairing knows a meter by.
    """
    based = """(SELECT e.event, ({meter}) AS meter, coalesce(a.base, e.id) AS id, e.place,
            e.quantity, CASE WHEN a.base IS NULL THEN 'same id' ELSE 'suffix' END AS form
        FROM {side} e LEFT JOIN attempts a ON a.side = '{side}' AND a.event = e.event
        WHERE e.id IS NOT NULL)"""
    listed = {side: based.format(side=side, meter=meters[side]) for side in SIDES}
    again = " UNION ".join(
        f"SELECT id FROM {listed[side]} GROUP BY meter, id HAVING count(*) > 1" for side in SIDES
    )
    tables.db.execute(f"CREATE OR REPLACE TEMP TABLE noted_again AS {again}")
    for side in SIDES:
        tables.db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE several_{side} AS
            SELECT *, row_number() OVER
                (PARTITION BY meter, id, quantity ORDER BY form, place, event) AS alike
            FROM {listed[side]} SEMI JOIN noted_again USING (id)
            """
        )
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        # What the other side has with that quantity comes first, then what came first.
        tables.db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE ranked AS
            SELECT s.*, first_value(s.event) OVER w AS first, row_number() OVER w AS copy
            FROM several_{side} s LEFT JOIN several_{other} o ON o.meter = s.meter
                AND o.id = s.id AND o.quantity = s.quantity AND o.alike = s.alike
            WINDOW w AS (PARTITION BY s.meter, s.id ORDER BY o.id IS NULL,
                CASE WHEN o.id IS NOT NULL THEN s.quantity END, s.form, s.place, s.event);
            INSERT INTO echoes SELECT '{side}', event, first, form FROM ranked
            LEFT JOIN (SELECT meter, id, count(*) AS most FROM several_{other} GROUP BY meter, id)
                USING (meter, id)
            WHERE CASE WHEN most IS NULL THEN alike > 1 ELSE copy > most END;
            INSERT INTO numbered SELECT '{side}', event, id || chr(31) || copy
            FROM ranked WHERE copy > 1;
            """
        )


def show(
    tables: Tables,
    side: Side,
    meter: str,
    subject: str = "subject",
    quantity: str = "full_quantity",
    instant: str = "instant",
    aside: str | None = None,
) -> None:
    """Let pairing see a side with these columns, ids without attempts, no repeats and no riders.

    The expressions are over the raw columns, `as_meter`, and `full_quantity`: with what rides on
    the event. `aside` is the column of `sum_parts` whose events are not shown any more.
    """
    known = f"AND NOT EXISTS (FROM sum_parts WHERE {aside} = e.event)" if aside else ""
    tables.db.execute(
        f"""
        CREATE OR REPLACE VIEW {side}_as AS
        SELECT * EXCLUDE (full_quantity), ({subject}) AS as_subject,
            TRY_CAST(({quantity}) AS BIGINT) AS as_quantity,
            TRY_CAST(({instant}) AS BIGINT) AS as_instant
        FROM (SELECT e.* REPLACE (coalesce(n.id, a.base, e.id) AS id), ({meter}) AS as_meter,
                e.quantity::HUGEINT + coalesce(c.more, 0) AS full_quantity
            FROM {side} e
                LEFT JOIN attempts a ON a.side = '{side}' AND a.event = e.event
                LEFT JOIN numbered n ON n.side = '{side}' AND n.event = e.event
                LEFT JOIN carried c ON c.side = '{side}' AND c.carrier = e.event
            WHERE NOT EXISTS (FROM echoes r WHERE r.side = '{side}' AND r.event = e.event)
                AND NOT EXISTS (FROM riders r WHERE r.side = '{side}' AND r.event = e.event)
                {known})
        """
    )
