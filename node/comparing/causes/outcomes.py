"""Outcomes: what our side knows of how requests ended, held against what only one side counts."""

from __future__ import annotations

from tallystick.node.comparing.causes.found import Found, Hypothesis
from tallystick.node.comparing.tables import Tables
from tallystick.node.importing.drafts import WELL

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
        _billed_after_timeout(tables, found)
        _sent_not_acknowledged(tables, found)


def _billed_after_timeout(tables: Tables, found: Found) -> None:
    """Pairs of which we count nothing because we gave up, and they count what they served."""
    where = f"""f.kind = 'quantity' AND f.cause IS NULL AND f.oq = 0 AND f.tq <> 0
        AND o.event = f.ours AND NOT {_WELL}"""
    (count,) = tables.db.execute(
        f"SELECT count(*) FROM findings f, ours o WHERE {where}"
    ).fetchone()  # type: ignore[misc]
    if count < EVENTS_MIN:
        return
    says = "Their system counts requests that were given up here after a time-out."
    facts = {"class": "billed-after-timeout"}
    number = found.add(Hypothesis("boundary", "quantity", "certain", facts, says))
    tables.db.execute(f"UPDATE findings AS f SET cause = {number} FROM ours o WHERE {where}")


def _sent_not_acknowledged(tables: Tables, found: Found) -> None:
    """Requests that only we count, by whether they ended well."""
    rows = tables.db.execute(
        f"""
        SELECT {_WELL} AS well, count(*), count(f.ours) FILTER (f.cause IS NULL)
        FROM ours o LEFT JOIN findings f ON f.ours = o.event AND f.kind = 'missing-there'
        WHERE o.outcome IS NOT NULL AND o.instant >= {tables.start_us}
            AND o.instant < {tables.end_us}
        GROUP BY well
        """
    ).fetchall()
    sizes = {bool(well): (int(size), int(lone)) for well, size, lone in rows}
    ended, lost = sizes.get(True, (0, 0))
    failed, unanswered = sizes.get(False, (0, 0))
    of_ended, of_failed = lost / max(ended, 1), unanswered / max(failed, 1)
    if unanswered >= EVENTS_MIN and of_failed >= max(SHARE_MIN, TIMES_MIN * of_ended):
        _name(
            tables, found, "sent-not-acknowledged", "certain", f"NOT {_WELL}",
            "We count requests that were sent and never acknowledged; their system does not.",
        )  # fmt: skip
    elif lost >= EVENTS_MIN and LOST_MIN <= of_ended <= SHARE_MIN and of_failed <= of_ended:
        _name(
            tables, found, "acknowledged", "likely", _WELL,
            "Requests that were acknowledged to us are not in their count.",
        )  # fmt: skip


def _name(tables: Tables, found: Found, name: str, confidence: str, which: str, says: str) -> None:
    cause = Hypothesis("boundary", "missing-there", confidence, {"class": name}, says)  # type: ignore[arg-type]
    number = found.add(cause)
    tables.db.execute(
        f"""UPDATE findings AS f SET cause = {number} FROM ours o
        WHERE o.event = f.ours AND f.kind = 'missing-there' AND f.cause IS NULL AND {which}"""
    )
