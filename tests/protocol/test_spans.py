"""The periods of a channel that make up a month, a week, a day or an hour."""

from __future__ import annotations

import pytest
from builders import DAY_US, identity, make_terms
from hypothesis import given
from hypothesis import strategies as st

from tallystick.protocol.errors import PeriodError
from tallystick.protocol.periods import Calendar
from tallystick.protocol.records import Terms
from tallystick.protocol.spans import period_named, span_of


def terms(calendar: str, zone: str = "Europe/Berlin") -> Terms:
    return make_terms(identity("a.example"), identity("b.example"), (), calendar, zone)


@pytest.mark.parametrize(
    ("calendar", "label", "first", "last", "count"),
    [
        ("month", "2026-10", "2026-10", "2026-10", 1),
        ("day", "2026-10", "2026-10-01", "2026-10-31", 31),
        ("hour", "2026-10", "2026-10-01T00", "2026-10-31T23", 745),  # one hour comes twice
        ("day", "2026-W43", "2026-10-19", "2026-10-25", 7),
        ("hour", "2026-03-29", "2026-03-29T00", "2026-03-29T23", 23),
        ("week", "2026-W43", "2026-W43", "2026-W43", 1),
    ],
)
def test_a_stretch_is_made_of_the_terms_periods(
    calendar: str, label: str, first: str, last: str, count: int
) -> None:
    span = span_of(terms(calendar), label)
    assert (span.periods[0].label, span.periods[-1].label) == (first, last)
    assert (len(span.periods), span.label) == (count, label)
    assert (span.start_us, span.end_us) == (span.periods[0].start_us, span.periods[-1].end_us)


@pytest.mark.parametrize(
    ("calendar", "label"),
    [("week", "2026-10"), ("month", "2026-10-05"), ("day", "2026-10-05T10"), ("month", "2026-W43")],
)
def test_what_is_not_made_of_them_is_refused(calendar: str, label: str) -> None:
    with pytest.raises(PeriodError, match=f"{label} is not made of {calendar}s"):
        span_of(terms(calendar), label)


@pytest.mark.parametrize("label", ["", "2026", "2026-13", "2026-10-32", "october", "2026-W54"])
def test_what_is_no_period_is_said_to_be_none(label: str) -> None:
    with pytest.raises(PeriodError, match="is no period in UTC"):
        period_named(label, "UTC")


@given(
    st.sampled_from(["hour", "day", "week", "month"]),
    st.integers(40 * DAY_US, 250_000_000_000_000_000),  # 1969-12 is no label that is taken
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"]),
)
def test_every_label_is_found_with_its_calendar(kind: str, instant_us: int, zone: str) -> None:
    period = Calendar(kind, zone).period_of(instant_us)
    found, calendar = period_named(period.label, zone)
    assert (found, calendar.calendar) == (period, kind)
