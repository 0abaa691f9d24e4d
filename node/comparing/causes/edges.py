"""Edges: events whose partner would be in a period that the other side's list does not reach.

An export of one period by a clock that is an hour ahead has nothing of the last hour of the other
side's period. That is the clock's doing, and no loss.
"""

from __future__ import annotations

from tallystick.node.comparing.causes.effects import late_bounds, shift_sql
from tallystick.node.comparing.causes.found import Found
from tallystick.node.comparing.tables import Tables


def explain(tables: Tables, found: Found) -> None:
    """Make them timing, by the clock's cause."""
    if found.clocks is None or not (found.offsets or found.late is not None):
        return
    low, high = late_bounds(found)
    lag = found.clocks.lag
    if lag and lag.shape != "constant":  # nearly all of the tail
        low, high = (0, 5 * lag.mean_us) if lag.side == "ours" else (-5 * lag.mean_us, 0)
    for side, other in (("ours", "theirs"), ("theirs", "ours")):
        first, last = tables.db.execute(
            f"SELECT min(instant), max(instant) FROM {other}"
        ).fetchone()  # type: ignore[misc]
        if first is None:
            continue
        # a list that has anything beyond the period is taken to reach as far as that
        first, last = min(first, tables.start_us), max(last + 1, tables.end_us)
        at = "oat" if side == "ours" else "tat"
        shift = shift_sql(found, at, at)
        cause = shift_sql(found, at, at, "cause")
        early, late = (
            (f"{at} - {shift} - {high}", f"{at} - {shift} - {low}")
            if side == "ours"
            else (f"{at} + {shift} + {low}", f"{at} + {shift} + {high}")
        )
        number = "NULL::INTEGER" if found.late is None else str(found.late)
        middle = f"{at} - {shift}" if side == "ours" else f"{at} + {shift}"
        tables.db.execute(
            f"""
            UPDATE findings SET kind = 'timing',
                cause = CASE WHEN {cause} IS NOT NULL AND ({middle} < {first} OR {middle} >= {last})
                    THEN {cause} ELSE coalesce({number}, {cause}) END
            WHERE cause IS NULL AND kind IN ('missing-here', 'missing-there')
                AND {side} IS NOT NULL
                AND ({early} < {first} OR {late} >= {last})
            """
        )
