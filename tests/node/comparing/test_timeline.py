"""The time-line: spans that follow the terms' clock, and totals that are the period's."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest

from tallystick.node.comparing.tables import Event, Tables
from tallystick.node.comparing.timeline import Timeline, spans_of, timelines
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import Meter

HOUR_US = 3_600_000_000
MONTH = Calendar("month", "Europe/Berlin")
OCTOBER = MONTH.parse("2026-10")  # its 25th has 25 hours


@pytest.mark.parametrize(
    ("calendar", "label", "name", "many"),
    [
        ("month", "2026-10", "day", 31),
        ("week", "2026-W43", "day", 7),
        ("day", "2026-10-25", "hour", 25),
        ("day", "2026-03-29", "hour", 23),
        ("hour", "2026-10-14T18", "minute", 60),
    ],
)
def test_spans_cover_the_period_and_one_more_on_either_side(
    calendar: str, label: str, name: str, many: int
) -> None:
    kept = Calendar(calendar, "Europe/Berlin")
    period = kept.parse(label)
    spans = spans_of(kept, period)
    assert (spans.name, len(spans)) == (name, many + 2)
    assert spans.bounds[1] == period.start_us
    assert spans.bounds[-2] == period.end_us
    assert list(spans.bounds) == sorted(set(spans.bounds))


def _timeline(folder: Path, meter: Meter, events: list[Event]) -> Timeline:
    folder.mkdir(exist_ok=True)
    tables = Tables([meter], OCTOBER.start_us, OCTOBER.end_us, folder)
    try:
        tables.load("ours", [events])
        tables.load("theirs", [events[:-1]])
        return timelines(tables.db, [meter], spans_of(MONTH, OCTOBER))[meter.name]
    finally:
        tables.close()


def _events() -> list[Event]:
    """One an hour, from the day before the month to the day after it."""
    hours = range(-24, (OCTOBER.end_us - OCTOBER.start_us) // HOUR_US + 24)
    return [Event(n, None, "t", "s", n + 100, OCTOBER.start_us + n * HOUR_US) for n in hours]


def test_each_day_has_what_occurred_on_it(tmp_path: Path) -> None:
    events = _events()
    found = _timeline(tmp_path, builders.meter("t"), events)
    inside = [e.quantity for e in events if OCTOBER.start_us <= e.at < OCTOBER.end_us]
    assert sum(found.ours[1:-1]) == sum(inside)
    assert found.ours[0] == sum(e.quantity for e in events[:24])
    assert found.ours[1] == sum(inside[:24])
    assert found.ours[25] == sum(inside[576:601])
    assert found.ours[-1] - found.theirs[-1] == events[-1].quantity
    assert found.ours[:-1] == found.theirs[:-1]


def test_counts_and_maxima(tmp_path: Path) -> None:
    events = _events()
    counts = _timeline(tmp_path / "c", builders.meter("t", aggregate="count"), events)
    assert counts.ours == (24,) * 25 + (25,) + (24,) * 7
    peaks = _timeline(tmp_path / "p", builders.meter("t", aggregate="max"), events)
    assert peaks.ours[:2] == (99, 123)


def test_sums_beyond_64_bits_are_exact(tmp_path: Path) -> None:
    events = [Event(n, None, "t", "s", 2**63 - 1, OCTOBER.start_us + n) for n in range(9)]
    assert _timeline(tmp_path, builders.meter("t"), events).ours[1] == 9 * (2**63 - 1)
