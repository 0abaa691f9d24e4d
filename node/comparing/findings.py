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

CONFIDENCES = ("certain", "likely", "possible")  # that a pair is one, surest first

_COLUMNS = "meter, kind, id, subject, op, oat, oq, tp, tat, tq, effect, confidence, number"


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
    cause: int | None = None  # the number of the cause that explains it


class Findings(Tables):
    """Two lists of events that are paired, and what differs between them."""

    _numbered = "(SELECT *, NULL AS number FROM findings)"  # with their causes' numbers

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

    def pairing(self, meter: Meter) -> dict[str, int]:
        """How many pairs and groups with an event in the period are how sure, and what has none."""
        counts = dict.fromkeys((*CONFIDENCES, "unpaired_ours", "unpaired_theirs"), 0)
        found = self.db.execute(
            f"""
            SELECT confidence, count(*) FROM pairs JOIN ours o ON event = pairs.ours
                WHERE meter = $meter AND {self._inside("o")} GROUP BY 1
            UNION ALL SELECT confidence, count(*) FROM findings
                WHERE meter = $meter AND kind = 'timing' AND step <> 'sum'
                    AND NOT (oat >= {self.start_us} AND oat < {self.end_us}) GROUP BY 1
            UNION ALL SELECT confidence, count(DISTINCT (side, whole)) FROM summed
                WHERE meter = $meter AND inside GROUP BY 1
            UNION ALL SELECT CASE WHEN ours IS NULL THEN 'unpaired_theirs' ELSE 'unpaired_ours' END,
                count(*) FROM findings WHERE meter = $meter AND confidence IS NULL GROUP BY 1
            """,
            {"meter": meter.name},
        ).fetchall()
        for name, count in found:
            counts[name] += count
        return counts

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
                f"""SELECT {_COLUMNS} FROM {self._numbered} {where}
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
                effect HUGEINT, confidence VARCHAR, step VARCHAR, ours BIGINT, theirs BIGINT);
            CREATE TEMP TABLE crossed (side VARCHAR, event BIGINT);
            """
        )
        self._find_in_pairs()
        self._find_in_groups()
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
                confidence, step, ours, theirs
            FROM differing JOIN kinds ON kinds.meter = om
            WHERE om = tm AND (oin <> tin OR aggregate <> 'count');
            """
        )

    def _find_in_groups(self) -> None:
        """Sums that are off, or of which a part is in another period; one across meters is none."""
        inside = self._inside
        self.db.execute(
            f"""
            CREATE TEMP TABLE members AS
            SELECT g.side, g.whole, g.confidence, g.step, w.meter, p.meter AS pm, w.id,
                w.subject, w.place, w.instant, w.quantity, {inside("w")} AS win,
                p.place AS pp, p.instant AS pat, p.quantity AS pq, {inside("p")} AS pin, part
            FROM groups g
                JOIN (SELECT 'ours' AS side, * FROM ours UNION ALL SELECT 'theirs', * FROM theirs) w
                    ON w.side = g.side AND w.event = g.whole
                JOIN (SELECT 'theirs' AS side, * FROM ours UNION ALL SELECT 'ours', * FROM theirs) p
                    ON p.side = g.side AND p.event = g.part;
            INSERT INTO crossed SELECT DISTINCT side, whole FROM members WHERE meter <> pm
                UNION ALL SELECT CASE side WHEN 'ours' THEN 'theirs' ELSE 'ours' END, part
                FROM members SEMI JOIN
                    (SELECT side, whole FROM members WHERE meter <> pm) USING (side, whole);
            CREATE TABLE summed AS
            SELECT side, whole, confidence, step, meter, id, subject, place, instant, quantity, win,
                min(pp) AS pp, min(pat) AS pat, sum(pq::HUGEINT) AS pq,
                coalesce(sum(pq::HUGEINT) FILTER (pin), 0) AS psum, bool_and(pin) AS every,
                bool_or(win OR pin) AS inside, arg_min(part, pp) AS part
            FROM members ANTI JOIN crossed ON whole = event AND members.side = crossed.side
            GROUP BY ALL;
            INSERT INTO findings
            SELECT meter, CASE WHEN win AND every THEN 'quantity' ELSE 'timing' END, id, subject,
                place, instant, quantity, pp, pat, pq, win::INTEGER * quantity::HUGEINT - psum
                    AS effect, confidence, 'sum', whole, part
            FROM summed WHERE side = 'ours' AND effect <> 0
            UNION ALL
            SELECT meter, CASE WHEN win AND every THEN 'quantity' ELSE 'timing' END, id, subject,
                pp, pat, pq, place, instant, quantity, psum - win::INTEGER * quantity::HUGEINT
                    AS effect, confidence, 'sum', part, whole
            FROM summed WHERE side = 'theirs' AND effect <> 0;
            DROP TABLE members
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
                SELECT s.meter, {kind}, id, subject, {sides}, {sign}({effect}), NULL, NULL, {events}
                FROM {side} s JOIN kinds USING (meter)
                WHERE {self._inside("s")} AND (
                    (NOT EXISTS (FROM pairs WHERE {side} = event)
                    AND NOT EXISTS (FROM groups g WHERE g.side = '{side}' AND whole = event)
                    AND NOT EXISTS (FROM groups g WHERE g.side <> '{side}' AND part = event))
                    OR event IN (SELECT event FROM crossed WHERE side = '{side}'))
                """
            )
