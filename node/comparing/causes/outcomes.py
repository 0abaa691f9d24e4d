"""Outcomes: what our side knows of how requests ended, held against what only one side counts."""

from __future__ import annotations

from tallystick.node.comparing.causes.found import Found, Hypothesis
from tallystick.node.comparing.tables import Tables
from tallystick.node.importing.drafts import WELL
from tallystick.protocol.compare import Confidence

EVENTS_MIN = 5
SHARE_MIN = 0.3  # of the requests that did not end well
TIMES_MIN = 4  # as often as among those that did
LOST_MIN = 0.008  # of the requests that ended well and are not there

_WORDS = ", ".join(f"'{name}'" for name in sorted(WELL))
_WELL = f"(lower(o.outcome) IN ({_WORDS}) OR regexp_matches(o.outcome, '^2[0-9][0-9]$'))"


def explain(tables: Tables, found: Found) -> None:
    """Give findings the boundary class that our outcomes tell."""
    (known,) = tables.db.execute("SELECT count(*) FROM ours WHERE outcome IS NOT NULL").fetchone()  # type: ignore[misc]
    if known:
        _pair_given_up(tables)
        _billed_after_timeout(tables, found)
        _sent_not_acknowledged(tables, found)


def _pair_given_up(tables: Tables) -> None:
    """Without ids, a request that we gave up on and count nothing of has no partner by quantity:
    the one by time, of the same subject, becomes one.
    """
    tables.db.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE given_up AS
        SELECT l.event AS ours, r.event AS theirs, l.place, l.instant, l.outcome
        FROM (SELECT s.*, k.reach FROM ours_as s JOIN kinds k ON k.meter = s.as_meter
                JOIN ours o USING (event)
                JOIN findings f ON f.ours = s.event AND f.kind = 'missing-there'
            WHERE s.quantity = 0 AND f.cause IS NULL AND NOT {_WELL}) l
        JOIN (SELECT s.* FROM theirs_as s JOIN findings f ON f.theirs = s.event
                AND f.kind = 'missing-here' AND f.cause IS NULL) r
            ON l.as_meter = r.as_meter AND l.as_subject = r.as_subject
            AND abs(l.as_instant - r.as_instant) <= l.reach
        QUALIFY row_number() OVER (PARTITION BY l.event ORDER BY
                abs(l.as_instant - r.as_instant), r.event) = 1
            AND row_number() OVER (PARTITION BY r.event ORDER BY
                abs(l.as_instant - r.as_instant), l.event) = 1;
        UPDATE findings SET kind = 'quantity', ours = g.ours, op = g.place, oat = g.instant, oq = 0
        FROM given_up g WHERE findings.theirs = g.theirs AND findings.kind = 'missing-here';
        DELETE FROM findings USING given_up g
        WHERE findings.ours = g.ours AND findings.theirs IS NULL;
        """
    )


def _billed_after_timeout(tables: Tables, found: Found) -> None:
    """Pairs of which we count nothing because we gave up, and they count what they served."""
    where = f"""f.kind = 'quantity' AND f.cause IS NULL AND f.oq = 0 AND f.tq <> 0
        AND o.event = f.ours AND NOT {_WELL}"""
    count, by_id = tables.db.execute(
        f"SELECT count(*), coalesce(bool_and(f.step = 'id'), false) FROM findings f, ours o"
        f" WHERE {where}"
    ).fetchone()  # type: ignore[misc]
    if count < EVENTS_MIN:
        return
    says = "Their system counts requests that were given up here after a time-out."
    facts = {"class": "billed-after-timeout"}
    sure: Confidence = "certain" if by_id else "likely"  # else a lost request may have paired
    number = found.add(Hypothesis("boundary", "quantity", sure, facts, says))
    tables.db.execute(f"UPDATE findings AS f SET cause = {number} FROM ours o WHERE {where}")


def _sent_not_acknowledged(tables: Tables, found: Found) -> None:
    """Requests that only we count, by whether they ended well."""
    rows = tables.db.execute(
        f"""
        SELECT {_WELL} AS well, count(*), count(f.ours) FILTER (f.cause IS NULL),
            bool_and(f.ours IS NULL OR f.meter IN (SELECT meter FROM named))
        FROM ours o LEFT JOIN findings f ON f.ours = o.event AND f.kind = 'missing-there'
        WHERE o.outcome IS NOT NULL AND o.instant >= {tables.start_us}
            AND o.instant < {tables.end_us}
        GROUP BY well
        """
    ).fetchall()
    sizes = {bool(well): (int(size), int(lone)) for well, size, lone, _ in rows}
    by_id = all(row[3] for row in rows)  # without ids, a partner may just not have been found
    ended, lost = sizes.get(True, (0, 0))
    failed, unanswered = sizes.get(False, (0, 0))
    of_ended, of_failed = lost / max(ended, 1), unanswered / max(failed, 1)
    if unanswered >= EVENTS_MIN and of_failed >= max(SHARE_MIN, TIMES_MIN * of_ended):
        _name(
            tables, found, "sent-not-acknowledged", "certain" if by_id else "likely",
            f"NOT {_WELL}",
            "We count requests that were sent and never acknowledged; their system does not.",
        )  # fmt: skip
    elif lost >= EVENTS_MIN and LOST_MIN <= of_ended <= SHARE_MIN and of_failed <= of_ended:
        _name(
            tables, found, "acknowledged", "likely", _WELL,
            "Requests that were acknowledged to us are not in their count.",
        )  # fmt: skip


def _name(
    tables: Tables, found: Found, name: str, confidence: Confidence, which: str, says: str
) -> None:
    cause = Hypothesis("boundary", "missing-there", confidence, {"class": name}, says)
    number = found.add(cause)
    tables.db.execute(
        f"""UPDATE findings AS f SET cause = {number} FROM ours o
        WHERE o.event = f.ours AND f.kind = 'missing-there' AND f.cause IS NULL AND {which}"""
    )
