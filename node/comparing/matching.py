"""Pairing two lists of events in a columnar engine: by id, then by what is equal and close in time.

Both lists are loaded into DuckDB, which joins them on disk if they do not fit into memory. What
the ids leave over is paired by subject, quantity and time: first what is equal to the microsecond,
then run by run. Each event is in at most one pair; whatever is in none, or differs within its pair,
becomes a row of `findings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow

from tallystick.node.comparing.runs import pair_run
from tallystick.protocol.compare import CLASSES, ClassTotal, cause_of_maximum
from tallystick.protocol.records import Meter

THREADS = 2
SWEEP_ROWS = 50_000

_SCHEMA = pyarrow.schema(
    [
        ("place", pyarrow.int64()),
        ("id", pyarrow.string()),
        ("meter", pyarrow.string()),
        ("subject", pyarrow.string()),
        ("quantity", pyarrow.int64()),
        ("instant", pyarrow.int64()),
    ]
)
_PAIR_SCHEMA = pyarrow.schema(
    [("ours", pyarrow.int64()), ("theirs", pyarrow.int64()), ("meter", pyarrow.string())]
)

_Side = list[tuple[int, int]]


class Event(NamedTuple):
    """An event of either side: its row or record, and what it says. Times are µs UTC."""

    place: int
    id: str | None
    meter: str
    subject: str
    quantity: int
    at: int


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


class Matcher:
    """Two lists of events and what pairing them finds. Close it when done."""

    def __init__(self, meters: Sequence[Meter], start_us: int, end_us: int, spill: Path) -> None:
        self._meters = {meter.name: meter for meter in meters}
        self._start_us, self._end_us = start_us, end_us
        self._db = duckdb.connect(":memory:")
        self._db.execute(f"SET threads = {THREADS}")
        self._db.execute("SET temp_directory = ?", [str(spill)])
        for table in ("ours", "theirs"):
            self._db.execute(
                f"CREATE TABLE {table} (place BIGINT, id VARCHAR, meter VARCHAR,"
                " subject VARCHAR, quantity BIGINT, instant BIGINT)"
            )
        self._db.execute("CREATE TABLE pairs (ours BIGINT, theirs BIGINT, meter VARCHAR)")

    def close(self) -> None:
        """Give the engine's memory and files back."""
        self._db.close()

    def load(self, table: str, events: Iterable[list[Event]]) -> None:
        """Add events, batch by batch, to `ours` or `theirs`."""
        for batch in events:
            if batch:
                self._insert(table, _SCHEMA, list(zip(*batch, strict=True)))

    def _insert(self, table: str, schema: Any, columns: Sequence[Sequence[Any]]) -> None:
        arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        self._db.register("batch", pyarrow.Table.from_arrays(arrays, schema=schema))
        self._db.execute(f"INSERT INTO {table} SELECT * FROM batch")
        self._db.unregister("batch")

    def match(self) -> None:
        """Pair all events and note what differs."""
        self._db.execute("CREATE TABLE kinds (meter VARCHAR, counts BOOLEAN, reach BIGINT)")
        for name, meter in self._meters.items():
            row = [name, meter.aggregate == "count", meter.match_window_us]
            self._db.execute("INSERT INTO kinds VALUES (?, ?, ?)", row)
        self._db.execute(
            """
            CREATE TABLE ranked AS SELECT *, CASE WHEN id IS NULL THEN 1 ELSE
                row_number() OVER (PARTITION BY meter, id ORDER BY place) END AS copy
            FROM ours;
            INSERT INTO pairs SELECT o.place, t.place, o.meter
            FROM ranked o JOIN theirs t ON o.meter = t.meter AND o.id = t.id WHERE o.copy = 1;
            CREATE TABLE named AS SELECT DISTINCT meter FROM pairs;
            """
        )
        self._pair_equal()
        self._pair_runs()
        self._find_doubles()
        self._find_differences()

    def _find_differences(self) -> None:
        """Give whatever is in no pair, or differs within its pair, its class and effect."""
        effect = "CASE WHEN m.counts THEN {count} ELSE {amount} END"
        bounds = {"start": self._start_us, "stop": self._end_us}
        inside = "({0}.instant >= $start AND {0}.instant < $stop)"
        ours_in, theirs_in = inside.format("o"), inside.format("t")
        self._db.execute(
            f"""
            CREATE TABLE findings AS
            SELECT o.meter, CASE WHEN {ours_in} AND {theirs_in} THEN 'quantity' ELSE 'timing' END
                    AS kind, coalesce(o.id, t.id) AS id, o.subject, o.place AS op, o.instant AS oat,
                o.quantity AS oq, t.place AS tp, t.instant AS tat, t.quantity AS tq,
                CASE WHEN {ours_in} AND {theirs_in} THEN o.quantity::HUGEINT - t.quantity
                WHEN {ours_in} THEN {effect.format(count=1, amount="o.quantity::HUGEINT")}
                ELSE {effect.format(count=-1, amount="-t.quantity::HUGEINT")} END AS effect
            FROM pairs p JOIN ours o ON o.place = p.ours AND o.meter = p.meter
                JOIN theirs t ON t.place = p.theirs AND t.meter = p.meter
                JOIN kinds m ON m.meter = p.meter
            WHERE {ours_in} <> {theirs_in}
                OR ({ours_in} AND {theirs_in} AND o.quantity <> t.quantity AND NOT m.counts)
            UNION ALL
            SELECT o.meter, CASE WHEN o.copy > 1 OR d.place IS NOT NULL THEN 'duplicate'
                    ELSE 'missing-there' END, o.id, o.subject, o.place, o.instant, o.quantity,
                NULL, NULL, NULL, {effect.format(count=1, amount="o.quantity::HUGEINT")}
            FROM ranked o ANTI JOIN pairs p ON o.place = p.ours AND o.meter = p.meter
                LEFT JOIN doubles d ON d.place = o.place AND d.meter = o.meter
                JOIN kinds m ON m.meter = o.meter
            WHERE {ours_in}
            UNION ALL
            SELECT t.meter, 'missing-here', t.id, t.subject, NULL, NULL, NULL,
                t.place, t.instant, t.quantity,
                {effect.format(count=-1, amount="-t.quantity::HUGEINT")}
            FROM theirs t ANTI JOIN pairs p ON t.place = p.theirs AND t.meter = p.meter
                JOIN kinds m ON m.meter = t.meter
            WHERE {theirs_in}
            """,
            bounds,
        )

    def _left_over(self) -> str:
        """Both sides' events that have no partner yet; a later copy of an id never gets one."""
        return """
            SELECT meter, subject, quantity, instant, 0 AS side, place FROM ranked o
            WHERE copy = 1 AND NOT EXISTS
                (SELECT 1 FROM pairs p WHERE p.ours = o.place AND p.meter = o.meter)
            UNION ALL
            SELECT meter, subject, quantity, instant, 1, place FROM theirs t
            WHERE NOT EXISTS
                (SELECT 1 FROM pairs p WHERE p.theirs = t.place AND p.meter = t.meter)
            """

    def _pair_equal(self) -> None:
        """Pair what is equal in everything, time included."""
        self._db.execute(
            f"""
            CREATE TEMP TABLE alike AS SELECT *, row_number() OVER
                (PARTITION BY meter, subject, quantity, instant, side ORDER BY place) AS copy
            FROM ({self._left_over()});
            INSERT INTO pairs SELECT o.place, t.place, o.meter FROM alike o JOIN alike t
                USING (meter, subject, quantity, instant, copy) WHERE o.side = 0 AND t.side = 1;
            DROP TABLE alike;
            """
        )

    def _pair_runs(self) -> None:
        """Pair what is left over and differs only in time, by less than the window."""
        rows = self._stream(
            f"""
            SELECT coalesce(instant - lag(instant) OVER (PARTITION BY meter, subject, quantity
                ORDER BY instant, side, place) > reach, true) AS first, meter, side, instant, place
            FROM ({self._left_over()}) JOIN kinds USING (meter)
            ORDER BY meter, subject, quantity, instant, side, place
            """
        )
        pairs: list[tuple[int, int, str]] = []
        for meter, ours, theirs in _runs(rows):
            window_us = self._meters[meter].match_window_us
            for i, j in pair_run([at for at, _ in ours], [at for at, _ in theirs], window_us):
                pairs.append((ours[i][1], theirs[j][1], meter))
            if len(pairs) >= SWEEP_ROWS:
                self._insert_pairs(pairs)
        self._insert_pairs(pairs)

    def _insert_pairs(self, pairs: list[tuple[int, int, str]]) -> None:
        if pairs:
            self._insert("pairs", _PAIR_SCHEMA, list(zip(*pairs, strict=True)))
            pairs.clear()

    def _find_doubles(self) -> None:
        """Our unpaired events that repeat one in a pair, where no id says that they are others."""
        near = """
            SELECT a.place, a.meter FROM alone a ASOF JOIN coupled c
                ON a.meter = c.meter AND a.subject = c.subject AND a.quantity = c.quantity
                AND a.instant {order} c.instant
            JOIN kinds k ON k.meter = a.meter WHERE abs(a.instant - c.instant) <= k.reach
            """
        self._db.execute(
            f"""
            CREATE TEMP TABLE alone AS SELECT * FROM ranked o
                ANTI JOIN pairs p ON o.place = p.ours AND o.meter = p.meter
                WHERE copy = 1 AND (id IS NULL OR meter NOT IN (SELECT meter FROM named));
            CREATE TEMP TABLE coupled AS SELECT o.* FROM ranked o
                SEMI JOIN pairs p ON o.place = p.ours AND o.meter = p.meter
                SEMI JOIN alone a ON o.meter = a.meter AND o.subject = a.subject
                    AND o.quantity = a.quantity;
            CREATE TABLE doubles AS
                {near.format(order=">=")} UNION {near.format(order="<=")};
            """
        )

    def _stream(self, query: str) -> Iterator[tuple[Any, ...]]:
        """A query's rows; on a cursor of its own, so that others can run meanwhile."""
        self._db.execute(f"CREATE TABLE swept AS {query}")
        with self._db.cursor() as cursor:
            cursor.execute("SELECT * FROM swept")
            while rows := cursor.fetchmany(SWEEP_ROWS):
                yield from rows

    def total(self, table: str, meter: Meter) -> tuple[int, int]:
        """A side's own aggregate over the period, and its number of events."""
        function = {"sum": "sum(quantity)", "max": "max(quantity)", "count": "count(*)"}
        value, count = self._db.execute(
            f"SELECT coalesce({function[meter.aggregate]}, 0), count(*) FROM {table}"
            " WHERE meter = ? AND instant >= ? AND instant < ?",
            [meter.name, self._start_us, self._end_us],
        ).fetchone()  # type: ignore[misc]
        return int(value), int(count)

    def classes(self, meter: Meter) -> dict[str, ClassTotal]:
        """What each class contributes, in the order of a report."""
        found = self._db.execute(
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
        bounds = {"meter": meter.name, "start": self._start_us, "stop": self._end_us}
        agreed = self._db.execute(
            f"""SELECT '', max(quantity) FROM ours o
            ANTI JOIN findings f ON f.meter = o.meter AND f.op = o.place
            WHERE o.meter = $meter AND {inside.format("instant")} HAVING count(*) > 0""",
            bounds,
        ).fetchall()
        sides = []
        for quantity, instant in (("oq", "oat"), ("tq", "tat")):
            found = self._db.execute(
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
        with self._db.cursor() as cursor:
            cursor.execute(
                f"""SELECT * FROM findings {where}
                ORDER BY meter, kind, coalesce(oat, tat), id, op, tp {many}""",
                {"meter": meter} if meter else {},
            )
            while rows := cursor.fetchmany(SWEEP_ROWS):
                yield from (Finding._make((*row[:-1], int(row[-1]))) for row in rows)


def _runs(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, _Side, _Side]]:
    """The runs that have events of both sides: their meter, and each side's times and places."""
    meter = ""
    sides: tuple[_Side, _Side] = ([], [])
    for first, name, side, instant, place in rows:
        if first:
            if all(sides):
                yield meter, *sides
            meter, sides = name, ([], [])
        sides[side].append((instant, place))
    if all(sides):
        yield meter, *sides
