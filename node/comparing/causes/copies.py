"""Copies: what a side notes again, under the same id, an id of the attempt, or a new one.

Copies by id are classed before pairing; here they get a cause if they are too many for accidents.
Copies under new ids are recognised by their content: they repeat an event of their own side within
seconds, and so many do that chance does not explain it.
"""

from __future__ import annotations

from tallystick.node.comparing.causes.found import Found, Hypothesis
from tallystick.node.comparing.causes.telling import WHO
from tallystick.node.comparing.tables import SIDES, Side, Tables
from tallystick.protocol.compare import Confidence

COPIES_MIN = 5
RATE_MIN = 0.004  # of a side's events; fewer are accidents
ALIKE_MIN = 0.8  # of what is there again under an id: the same event as the first
NEAR_US = 12_000_000
CHANCE_TIMES = 4  # more copies by content than chance makes


def explain(tables: Tables, found: Found) -> None:
    """Give copies their cause, and find those under new ids."""
    for side in SIDES:
        _by_id(tables, found, side)
        _by_content(tables, found, side)


def _size(tables: Tables, side: Side) -> int:
    (count,) = tables.db.execute(
        f"SELECT count(*) FROM {side} WHERE instant >= {tables.start_us}"
        f" AND instant < {tables.end_us}"
    ).fetchone()  # type: ignore[misc]
    return int(count)


def _by_id(tables: Tables, found: Found, side: Side) -> None:
    # What an id has again with another quantity was not sent again, whatever else it is.
    again = f"""SELECT r.event, r.form FROM echoes r JOIN {side} e ON e.event = r.event
        JOIN {side} x ON x.event = r.first
        WHERE r.side = '{side}' AND e.quantity = x.quantity AND e.subject = x.subject"""
    forms = tables.db.execute(
        f"""SELECT r.form, count(s.event), count(*) FROM findings f
        JOIN echoes r ON r.side = '{side}' AND r.event = f.{side}
        LEFT JOIN ({again}) s ON s.event = r.event
        WHERE f.kind = 'duplicate' GROUP BY r.form ORDER BY r.form"""
    ).fetchall()
    size = _size(tables, side)
    for form, count, all_of_form in forms:
        if count < max(COPIES_MIN, RATE_MIN * size, ALIKE_MIN * all_of_form):
            continue
        outcome = _outcome_of_copies(tables, side, form)
        number = found.add(
            _boundary(side, "certain") if outcome == "retried" else _retry(side, form)
        )
        tables.db.execute(
            f"""UPDATE findings SET cause = {number} FROM ({again}) r
            WHERE findings.kind = 'duplicate' AND findings.cause IS NULL
                AND r.event = findings.{side} AND r.form = $form""",
            {"form": form},
        )


def _outcome_of_copies(tables: Tables, side: Side, form: str) -> str | None:
    """What our side says became of most requests of which their side has copies."""
    if side == "ours":
        return None
    row = tables.db.execute(
        """SELECT o.outcome, count(*) AS n, sum(n) OVER () AS all_of_them FROM echoes r
        JOIN pairs p ON p.theirs = r.first JOIN ours o ON o.event = p.ours
        WHERE r.side = 'theirs' AND r.form = ? GROUP BY 1 ORDER BY n DESC LIMIT 1""",
        [form],
    ).fetchone()
    return row[0] if row and row[1] > 0.8 * float(row[2]) else None


def _retry(side: Side, form: str) -> Hypothesis:
    how = {
        "same id": "under the same id",
        "suffix": "with its attempt in the id",
        "new id": "under a new id",
    }[form]
    says = f"{WHO[side]} counts what was sent again a second time, {how}."
    sure: Confidence = "likely" if form == "new id" else "certain"
    return Hypothesis("retry", "duplicate", sure, {"side": side, "form": form}, says)


def _boundary(side: Side, sure: Confidence) -> Hypothesis:
    facts = {"side": side, "class": "retried"}
    says = f"{WHO[side]} counts each attempt of requests that were retried."
    return Hypothesis("boundary", "duplicate", sure, facts, says)


def _by_content(tables: Tables, found: Found, side: Side) -> None:
    """Events without a partner that repeat one of their own side, within seconds."""
    kind = "missing-there" if side == "ours" else "missing-here"
    unexplained = f"f.kind IN ('{kind}', 'duplicate') AND f.cause IS NULL"
    least = max(COPIES_MIN, RATE_MIN * _size(tables, side))
    (most,) = tables.db.execute(
        f"SELECT count(f.{side}) FROM findings f WHERE {unexplained}"
    ).fetchone()  # type: ignore[misc]
    if most < least:
        return
    nearest = f"""SELECT l.event, c.event AS first FROM lone l ASOF JOIN like_lone c
        ON l.as_meter = c.as_meter AND l.subject = c.subject AND l.quantity = c.quantity
            AND l.instant {{order}} c.instant
        WHERE abs(l.instant - c.instant) <= {NEAR_US}"""
    tables.db.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lone AS SELECT s.* FROM {side}_as s
            JOIN findings f ON f.{side} = s.event AND {unexplained};
        CREATE OR REPLACE TEMP TABLE coupled_here AS
            SELECT s.* FROM {side}_as s JOIN pairs p ON p.{side} = s.event;
        CREATE OR REPLACE TEMP TABLE like_lone AS
            SELECT as_meter, subject, quantity, instant, min(event) AS event FROM coupled_here
            SEMI JOIN lone USING (as_meter, subject, quantity) GROUP BY ALL;
        CREATE OR REPLACE TEMP TABLE again AS
        SELECT event, min(first) AS first
        FROM ({nearest.format(order=">=")} UNION ALL {nearest.format(order="<=")}) GROUP BY event;
        """
    )
    lone, copies, coupled, twins = tables.db.execute(
        f"""SELECT (SELECT count(*) FROM lone), (SELECT count(*) FROM again),
        (SELECT count(*) FROM coupled_here),
        (SELECT count(DISTINCT a.event) FROM (FROM coupled_here ORDER BY hash(event) LIMIT 5000) a
            JOIN coupled_here b ON a.as_meter = b.as_meter AND a.subject = b.subject
                AND a.quantity = b.quantity AND a.event <> b.event
                AND b.instant BETWEEN a.instant - {NEAR_US} AND a.instant + {NEAR_US})"""
    ).fetchone()  # type: ignore[misc]
    chance = lone * twins / max(min(coupled, 5000), 1)
    if copies < max(least, CHANCE_TIMES * chance):
        return
    number = found.add(
        _boundary(side, "likely")
        if side == "theirs" and _retried(tables)
        else _retry(side, "new id")
    )
    tables.db.execute(
        f"""UPDATE findings SET kind = 'duplicate', cause = {number}
        WHERE cause IS NULL AND kind IN ('{kind}', 'duplicate')
            AND {side} IN (SELECT event FROM again)"""
    )


def _retried(tables: Tables) -> bool:
    """Whether our side says of most of their copies that they were retried."""
    retried, known = tables.db.execute(
        """SELECT count(*) FILTER (o.outcome = 'retried'), count(*) FROM again a
        JOIN pairs p ON p.theirs = a.first JOIN ours o ON o.event = p.ours"""
    ).fetchone()  # type: ignore[misc]
    return bool(known) and retried > 0.6 * known
