"""Both sides' totals over time: by minute, hour or day of a period, and a little around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from tallystick.protocol.periods import Calendar, Period
from tallystick.protocol.records import Meter

if TYPE_CHECKING:
    import duckdb

_FUNCTIONS = {"sum": 0, "max": 1, "count": 2}  # its column in the query below
_MINUTE_US = 60_000_000
_HOUR_US = 60 * _MINUTE_US


@dataclass(frozen=True, slots=True)
class Spans:
    """The stretches of a time-line: `bounds` has one instant (µs UTC) more than there are spans.

    The first and the last span are outside the period.
    """

    name: str  # "minute", "hour" or "day"
    zone: str
    bounds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.bounds) - 1


@dataclass(frozen=True, slots=True)
class Timeline:
    """One meter's totals on both sides in each of the spans, in the meter's scale."""

    meter: str
    spans: Spans
    ours: tuple[int, ...]
    theirs: tuple[int, ...]


def spans_of(calendar: Calendar, period: Period) -> Spans:
    """A month and a week by day, a day by hour, an hour by minute; one more on either side.

    Days are those of the calendar's zone, so that one may have 23 or 25 hours.
    """
    if calendar.calendar in ("month", "week"):
        days = Calendar("day", calendar.time_zone)
        first = days.period_of(period.start_us - 1).start_us
        last = days.period_of(period.end_us).end_us
        return Spans("day", calendar.time_zone, (first, *_days(days, period), last))
    name, step = ("hour", _HOUR_US) if calendar.calendar == "day" else ("minute", _MINUTE_US)
    inside = range(period.start_us, period.end_us, step)
    bounds = (period.start_us - step, *inside, period.end_us, period.end_us + step)
    return Spans(name, calendar.time_zone, bounds)


def _days(days: Calendar, period: Period) -> Iterator[int]:
    """The bounds of the period's days, its end included."""
    day = days.period_of(period.start_us)
    while day.start_us < period.end_us:
        yield day.start_us
        day = days.next(day)
    yield period.end_us


def timelines(
    db: duckdb.DuckDBPyConnection, meters: Sequence[Meter], spans: Spans
) -> dict[str, Timeline]:
    """The time-line of each meter, from the engine's tables `ours` and `theirs`."""
    functions = {meter.name: _FUNCTIONS[meter.aggregate] for meter in meters}
    sides = {table: _totals(db, table, functions, spans) for table in ("ours", "theirs")}
    return {
        meter.name: Timeline(
            meter.name, spans, tuple(sides["ours"][meter.name]), tuple(sides["theirs"][meter.name])
        )
        for meter in meters
    }


def _totals(
    db: duckdb.DuckDBPyConnection, table: str, functions: dict[str, int], spans: Spans
) -> dict[str, list[int]]:
    """A side's totals of each meter in each span."""
    totals = {name: [0] * len(spans) for name in functions}
    # The bounds' common measure cuts time so that no join has to see every event.
    measure = gcd(*spans.bounds)
    found = db.execute(
        f"""
        WITH ticks AS (
            SELECT meter, instant // $measure AS tick, sum(quantity) AS sums,
                max(quantity) AS highest, count(*) AS events
            FROM {table} WHERE instant >= $first AND instant < $last GROUP BY ALL),
        bounds AS (SELECT unnest($bounds) // $measure AS tick),
        spans AS (SELECT tick, row_number() OVER (ORDER BY tick) - 1 AS span FROM bounds)
        SELECT t.meter, s.span, sum(t.sums), max(t.highest), sum(t.events)
        FROM ticks t ASOF JOIN spans s ON t.tick >= s.tick GROUP BY ALL
        """,
        {
            "measure": measure,
            "first": spans.bounds[0],
            "last": spans.bounds[-1],
            "bounds": list(spans.bounds[:-1]),
        },
    ).fetchall()
    for name, span, *values in found:
        if name in totals:
            totals[name][span] = int(values[functions[name]])
    return totals
