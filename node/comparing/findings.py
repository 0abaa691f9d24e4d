"""What pairing leaves: what is in no pair, or differs within its own.

Each becomes a row of the table `findings`, with its class and effect; the effects of a class add up
to what the class explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tallystick.node.comparing.tables import Side, Tables
from tallystick.protocol.compare import CLASSES, ClassTotal, cause_of_maximum
from tallystick.protocol.records import Meter

FETCH_ROWS = 50_000

_COLUMNS = "meter, kind, id, subject, op, oat, oq, tp, tat, tq, effect, confidence"


class Finding(NamedTuple):
    """One difference: its class, both sides of it where there are two, and what it amounts to."""

    meter: str
    kind: str
    id: str | None
    subject: str
    our_place: int | None
    our_at: int | None
    our_quantity: int | None
    their_place: int | None
    their_at: int | None
    their_quantity: int | None
    effect: int
    confidence: str | None = None  # the pair's; None if there is only one side


class Findings(Tables):
    """Two lists of events that are paired, and what differs between them."""

    def total(self, table: Side, meter: Meter) -> tuple[int, int]:
        """A side's own aggregate over the period, and its number of events."""
        function = {"sum": "sum(quantity)", "max": "max(quantity)", "count": "count(*)"}
        value, count = self.db.execute(
            f"SELECT coalesce({function[meter.aggregate]}, 0), count(*) FROM {table}"
            " WHERE meter = ? AND instant >= ? AND instant < ?",
            [meter.name, self.start_us, self.end_us],
        ).fetchone()  # type: ignore[misc]
        return int(value), int(count)

    def classes(self, meter: Meter) -> dict[str, ClassTotal]:
        """What each class contributes, in the order of a report."""
        found = self.db.execute(
            "SELECT kind, sum(effect), count(*) FROM findings WHERE meter = ? GROUP BY kind",
            [meter.name],
        ).fetchall()
        totals = {kind: (int(effect), int(events)) for kind, effect, events in found}
        if meter.aggregate == "max":
            cause = cause_of_maximum(*self._maxima(meter))
            gap = self.total("ours", meter)[0] - self.total("theirs", meter)[0]
            totals = {k: (gap if k == cause else 0, events) for k, (_, events) in totals.items()}
        return {kind: ClassTotal(*totals[kind]) for kind in CLASSES if kind in totals}

    def _maxima(self, meter: Meter) -> list[dict[str, int]]:
        """Each side's highest quantity in the period, by class; "" is what both sides have."""
        inside = "{0} >= $start AND {0} < $stop"
        bounds = {"meter": meter.name, "start": self.start_us, "stop": self.end_us}
        agreed = self.db.execute(
            f"""SELECT '', max(quantity) FROM ours o
            ANTI JOIN findings f ON f.ours = o.event
            WHERE o.meter = $meter AND {inside.format("instant")} HAVING count(*) > 0""",
            bounds,
        ).fetchall()
        sides = []
        for quantity, instant in (("oq", "oat"), ("tq", "tat")):
            found = self.db.execute(
                f"""SELECT kind, max({quantity}) FROM findings
                WHERE meter = $meter AND {inside.format(instant)} GROUP BY kind""",
                bounds,
            ).fetchall()
            sides.append(dict(agreed + found))
        return sides

    def findings(self, meter: str | None = None, limit: int | None = None) -> Iterator[Finding]:
        """The differences, by meter, class, time and id."""
        where = "WHERE meter = $meter" if meter else ""
        many = f"LIMIT {limit}" if limit else ""
        with self.db.cursor() as cursor:
            cursor.execute(
                f"""SELECT {_COLUMNS} FROM findings {where}
                ORDER BY meter, kind, coalesce(oat, tat), id, op, tp {many}""",
                {"meter": meter} if meter else {},
            )
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield from map(Finding._make, rows)

    def find_differences(self) -> None:
        """Give whatever is in no pair or group, or differs within it, its class and effect."""
        self.db.execute(
            """
            CREATE TABLE findings (meter VARCHAR, kind VARCHAR, id VARCHAR, subject VARCHAR,
                op BIGINT, oat BIGINT, oq HUGEINT, tp BIGINT, tat BIGINT, tq HUGEINT,
                effect HUGEINT, confidence VARCHAR, ours BIGINT, theirs BIGINT);
            CREATE TEMP TABLE crossed (side VARCHAR, event BIGINT);
            """
        )
        self._find_in_pairs()
        self._find_alone()

    def _inside(self, table: str) -> str:
        return f"({table}.instant >= {self.start_us} AND {table}.instant < {self.end_us})"

    def _find_in_pairs(self) -> None:
        """Pairs that are in different periods or differ; one across meters is two lone events."""
        ours_in, theirs_in = self._inside("o"), self._inside("t")
        self.db.execute(
            f"""
            CREATE TEMP TABLE differing AS
            SELECT p.*, o.meter AS om, t.meter AS tm, {ours_in} AS oin, {theirs_in} AS tin,
                o.id AS oid, t.id AS tid, o.subject, o.place AS op, o.instant AS oat,
                o.quantity AS oq, t.place AS tp, t.instant AS tat, t.quantity AS tq
            FROM pairs p JOIN ours o ON o.event = p.ours JOIN theirs t ON t.event = p.theirs
            WHERE {ours_in} <> {theirs_in} OR o.meter <> t.meter
                OR ({ours_in} AND o.quantity <> t.quantity);
            INSERT INTO crossed SELECT 'ours', ours FROM differing WHERE om <> tm
                UNION ALL SELECT 'theirs', theirs FROM differing WHERE om <> tm;
            INSERT INTO findings
            SELECT om, CASE WHEN oin AND tin THEN 'quantity' ELSE 'timing' END,
                coalesce(oid, tid), subject, op, oat, oq, tp, tat, tq,
                CASE WHEN aggregate = 'count' THEN oin::INTEGER - tin::INTEGER
                    ELSE oin::INTEGER * oq::HUGEINT - tin::INTEGER * tq::HUGEINT END AS effect,
                confidence, ours, theirs
            FROM differing JOIN kinds ON kinds.meter = om
            WHERE om = tm AND (oin <> tin OR aggregate <> 'count');
            """
        )

    def _find_alone(self) -> None:
        """What has no partner: ours is a copy or missing there, theirs is missing here."""
        effect = "CASE WHEN aggregate = 'count' THEN 1 ELSE quantity::HUGEINT END"
        for side, kind in (
            ("ours", "CASE WHEN event IN (SELECT event FROM doubles) THEN 'duplicate'"
                " ELSE 'missing-there' END"),
            ("theirs", "'missing-here'"),
        ):  # fmt: skip
            here, nothing = "place, instant, quantity", "NULL, NULL, NULL"
            sides = f"{here}, {nothing}" if side == "ours" else f"{nothing}, {here}"
            events = "event, NULL" if side == "ours" else "NULL, event"
            sign = "" if side == "ours" else "-"
            self.db.execute(
                f"""
                INSERT INTO findings
                SELECT s.meter, {kind}, id, subject, {sides}, {sign}({effect}), NULL, {events}
                FROM {side} s JOIN kinds USING (meter)
                WHERE {self._inside("s")} AND (
                    (NOT EXISTS (FROM pairs WHERE {side} = event)
                    AND NOT EXISTS (FROM groups g WHERE g.side = '{side}' AND whole = event)
                    AND NOT EXISTS (FROM groups g WHERE g.side <> '{side}' AND part = event))
                    OR event IN (SELECT event FROM crossed WHERE side = '{side}'))
                """
            )
