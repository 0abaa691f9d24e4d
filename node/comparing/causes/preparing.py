"""Preparing: ids without their attempts, copies aside, and a sample of both sides to guess from.

An id such as `req-7-r1` is an attempt of `req-7` if that is an id too, and if its side has the same
event under all ids of this request: `conv-7-2`, say, is the second turn of `conv-7` and not a
second attempt. Of an id that a side has more often than the other, what is over is a copy: it is in
`echoes` and not shown to pairing.
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
    for side in SIDES:
        tables.db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE several_{side} AS
            SELECT event, meter, id, place, form, first_value(event) OVER w AS first,
                row_number() OVER w AS copy
            FROM (SELECT e.event, ({meters[side]}) AS meter, coalesce(a.base, e.id) AS id, e.place,
                    CASE WHEN a.base IS NULL THEN 'same id' ELSE 'suffix' END AS form
                FROM {side} e LEFT JOIN attempts a ON a.side = '{side}' AND a.event = e.event)
            WHERE id IN (
                SELECT id FROM (SELECT ({meters[side]}) AS meter, coalesce(a.base, e.id) AS id
                    FROM {side} e LEFT JOIN attempts a ON a.side = '{side}' AND a.event = e.event
                    WHERE e.id IS NOT NULL)
                GROUP BY meter, id HAVING count(*) > 1)
            WINDOW w AS (PARTITION BY meter, id ORDER BY form, place, event)
            """
        )
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        tables.db.execute(
            f"""
            INSERT INTO echoes SELECT '{side}', event, first, form FROM several_{side} s
            LEFT JOIN (SELECT meter, id, max(copy) AS most FROM several_{other}
                GROUP BY meter, id) o USING (meter, id) WHERE copy > coalesce(most, 1);
            INSERT INTO numbered SELECT '{side}', event, id || chr(31) || copy
            FROM several_{side} WHERE copy > 1;
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
