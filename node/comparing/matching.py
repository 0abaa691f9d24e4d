"""Pairing two lists of events: by id, then by what is equal, then by what is close in time.

What the ids leave over is put on *lanes*: a lane is one meter and subject, as the hypotheses have
them, that both sides still have events of. No later step looks across lanes. Each event ends in one
pair or group, or in none; `findings` are made of what is in none or differs.
"""

from __future__ import annotations

from tallystick.node.comparing.equals import pair_equals
from tallystick.node.comparing.findings import Findings
from tallystick.node.comparing.ids import pair_ids
from tallystick.node.comparing.nearby import pair_near
from tallystick.node.comparing.stretches import drop_paired
from tallystick.node.comparing.sums import group_sums


class Matcher(Findings):
    """Two lists of events and what pairing them finds. Close it when done."""

    def pair(self) -> None:
        """Make `pairs`, `groups`, and `doubles`: our events without a partner that repeat one."""
        steps = (
            lambda: pair_ids(self),
            self._make_lanes,
            lambda: pair_equals(self),
            lambda: drop_paired(self),
            lambda: pair_near(self),
            lambda: drop_paired(self),
            lambda: group_sums(self),
            self._find_doubles,
        )
        for done, step in enumerate(steps):
            self.progress("pairing", done, len(steps))
            step()
        self.progress("pairing", len(steps), len(steps))

    def _make_lanes(self) -> None:
        """Put what has no partner yet on lanes: `lanes`, and `rest` with its events."""
        self.db.execute(
            """
            CREATE TEMP TABLE our_rest AS FROM ours_as ANTI JOIN pairs ON event = ours;
            CREATE TEMP TABLE their_rest AS FROM theirs_as ANTI JOIN pairs ON event = theirs;
            CREATE TABLE lanes AS
            SELECT row_number() OVER (ORDER BY meter, subject)::INTEGER AS lane, meter, subject,
                reach, aggregate, scale
            FROM (SELECT DISTINCT as_meter AS meter, as_subject AS subject FROM our_rest)
                JOIN (SELECT DISTINCT as_meter AS meter, as_subject AS subject FROM their_rest)
                    USING (meter, subject)
                JOIN kinds USING (meter);
            CREATE TABLE rest AS
            SELECT 0::TINYINT AS side, event, lane, as_quantity AS quantity, as_instant AS instant,
                hash(id, quantity, instant) AS tie
            FROM our_rest JOIN lanes ON as_meter = lanes.meter AND as_subject = lanes.subject
            WHERE as_quantity IS NOT NULL AND as_instant IS NOT NULL
            UNION ALL
            SELECT 1::TINYINT, event, lane, as_quantity, as_instant, hash(id, quantity, instant)
            FROM their_rest JOIN lanes ON as_meter = lanes.meter AND as_subject = lanes.subject
            WHERE as_quantity IS NOT NULL AND as_instant IS NOT NULL;
            DROP TABLE their_rest
            """
        )

    def _find_doubles(self) -> None:
        """Our events without a partner that repeat one that has one.

        What an id has again is aside by now, and where ids count, another id says that it is
        another event. What is left is a copy if it repeats an event within the window.
        """
        near = """
            SELECT a.event FROM alone a ASOF JOIN coupled c
                ON a.as_meter = c.as_meter AND a.as_subject = c.as_subject
                AND a.as_quantity = c.as_quantity AND a.as_instant {order} c.as_instant
            JOIN kinds k ON k.meter = a.as_meter
            WHERE abs(a.as_instant - c.as_instant) <= k.reach
            """
        self.db.execute(
            f"""
            CREATE TEMP TABLE alone AS SELECT * FROM our_rest ANTI JOIN pairs ON event = ours
                ANTI JOIN (SELECT whole AS event FROM groups WHERE side = 'ours'
                    UNION ALL SELECT part FROM groups WHERE side = 'theirs') USING (event)
                WHERE id IS NULL OR as_meter NOT IN (SELECT meter FROM named);
            CREATE TEMP TABLE coupled AS SELECT o.* FROM ours_as o SEMI JOIN pairs ON event = ours
                SEMI JOIN alone a ON o.as_meter = a.as_meter AND o.as_subject = a.as_subject
                    AND o.as_quantity = a.as_quantity;
            CREATE TABLE doubles AS {near.format(order=">=")} UNION {near.format(order="<=")};
            DROP TABLE our_rest; DROP TABLE alone; DROP TABLE coupled
            """
        )
