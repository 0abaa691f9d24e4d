"""What pairing leaves: what is in no pair, or differs within its own.

Each becomes a row of the table `findings`, with its class and effect; the effects of a class add up
to what the class explains.
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.node.comparing.result import Finding
from tallystick.node.comparing.tables import Side, Tables
from tallystick.protocol.records import Meter

FETCH_ROWS = 50_000

_COLUMNS = "meter, kind, id, subject, op, oat, oq, tp, tat, tq, effect, confidence, number"


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

    def findings(self) -> Iterator[Finding]:
        """The differences, by meter, class, time and id."""
        with self.db.cursor() as cursor:
            cursor.execute(
                f"""SELECT {_COLUMNS}
                FROM findings LEFT JOIN cause_numbers USING (cause, meter, kind)
                ORDER BY meter, kind, coalesce(oat, tat), id, op, tp"""
            )
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield from map(Finding._make, rows)

    def _inside(self, table: str) -> str:
        return f"({table}.instant >= {self.start_us} AND {table}.instant < {self.end_us})"
