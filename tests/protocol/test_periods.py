"""Periods: no gap, no overlap, and the local calendar's own bounds, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.protocol.errors import PeriodError
from tallystick.protocol.periods import FORMS, Calendar
from tallystick.protocol.records import TIME_MAX_US

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Africa/Monrovia",
    "Asia/Beirut",
)
HOUR_US = 3_600_000_000


def _us(*fields: int) -> int:
    return int(datetime(*fields, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(ZONES),
    st.integers(0, _us(2040, 1, 1)) | st.integers(0, TIME_MAX_US - 1000 * HOUR_US),
)
def test_periods_tile_the_time(calendar: str, zone: str, instant: int) -> None:
    made = Calendar(calendar, zone)
    period = made.period_of(instant)
    assert period.start_us <= instant < period.end_us
    following = made.next(period)
    assert following.start_us == period.end_us
    assert following.label != period.label
    # Asked afresh, the bounds are the same from any instant inside.
    for inside in (period.start_us, period.end_us - 1):
        assert Calendar(calendar, zone).period_of(inside) == period
    assert Calendar(calendar, zone).parse(following.label) == following


@pytest.mark.parametrize(
    ("calendar", "zone", "label", "start", "hours"),
    [
        ("day", "Europe/Berlin", "2026-03-29", _us(2026, 3, 28, 23), 23),
        ("day", "Europe/Berlin", "2026-10-25", _us(2026, 10, 24, 22), 25),
        ("month", "Europe/Berlin", "2026-10", _us(2026, 9, 30, 22), 31 * 24 + 1),
        ("month", "UTC", "2024-02", _us(2024, 2, 1), 29 * 24),
        ("month", "UTC", "2023-02", _us(2023, 2, 1), 28 * 24),
        ("day", "UTC", "2024-02-29", _us(2024, 2, 29), 24),
        ("week", "UTC", "2026-W53", _us(2026, 12, 28), 7 * 24),
        ("week", "UTC", "2027-W01", _us(2027, 1, 4), 7 * 24),
        ("day", "America/Sao_Paulo", "2018-11-04", _us(2018, 11, 4, 3), 23),
        ("day", "Pacific/Apia", "2011-12-31", _us(2011, 12, 30, 10), 24),
        ("hour", "Europe/Berlin", "2026-10-25T02+02:00", _us(2026, 10, 25), 1),
        ("hour", "Europe/Berlin", "2026-10-25T02+01:00", _us(2026, 10, 25, 1), 1),
    ],
)
def test_known_bounds(calendar: str, zone: str, label: str, start: int, hours: int) -> None:
    period = Calendar(calendar, zone).parse(label)
    assert (period.start_us, period.end_us - period.start_us) == (start, hours * HOUR_US)


def test_lord_howes_half_hour_is_a_period() -> None:
    made = Calendar("hour", "Australia/Lord_Howe")
    half = made.parse("2026-04-05T01+10:30")
    assert half.end_us - half.start_us == HOUR_US // 2
    assert made.parse("2026-04-05T01+11:00").end_us == half.start_us


@pytest.mark.parametrize(
    ("calendar", "zone", "label", "said"),
    [
        ("month", "UTC", "2026-13", "is not a month"),
        ("month", "UTC", "2026-1", "2026-10"),
        ("month", "UTC", "26-10", "YYYY-MM"),
        ("week", "UTC", "2026-W54", "is not a week"),
        ("day", "UTC", "2026-02-29", "is not a day"),
        ("hour", "Europe/Berlin", "2026-10-25T02", "2026-10-25T02+02:00 or 2026-10-25T02+01:00"),
        ("hour", "Europe/Berlin", "2026-03-29T02", "the clock skips it"),
        ("day", "Pacific/Apia", "2011-12-30", "the clock skips it"),
        ("hour", "UTC", "2026-03-29T02+02:00", "there is no"),
        ("month", "UTC", "0001-01", "is not a month"),
        ("month", "UTC", "9999-12", "is not a month"),
    ],
)
def test_labels_that_name_nothing(calendar: str, zone: str, label: str, said: str) -> None:
    with pytest.raises(PeriodError) as raised:
        Calendar(calendar, zone).parse(label)
    assert said in str(raised.value)


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "../../etc/passwd", "/etc/passwd", "a\0b"])
def test_zones_that_do_not_exist(zone: str) -> None:
    with pytest.raises(PeriodError, match="no time zone"):
        Calendar("day", zone)
