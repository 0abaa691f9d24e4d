"""Pairing finds exactly what was planted, with and without ids, and its classes add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import builders
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.node.comparing.matching import Matcher
from tallystick.node.comparing.tables import Event
from tallystick.protocol.records import Meter

START, END = 1_000_000_000, 2_000_000_000  # a period of a thousand seconds
TOKENS = builders.meter("tokens")


@contextmanager
def _matched(ours: list[Event], theirs: list[Event], meter: Meter = TOKENS) -> Iterator[Matcher]:
    matcher = Matcher([meter], START, END, None)
    try:
        matcher.load("ours", [ours])
        matcher.load("theirs", [theirs])
        matcher.match()
        yield matcher
    finally:
        matcher.close()


def _event(place: int, id_: str | None, quantity: int = 10, second: float = 10) -> Event:
    return Event(place, id_, "tokens", "s", quantity, START + int(second * 1_000_000))


def _kinds(matcher: Matcher) -> dict[str, tuple[int, int]]:
    return {kind: (t.quantity, t.events) for kind, t in matcher.classes(TOKENS).items()}


RECORD = [_event(n, f"id-{n}", 10 + n, 10 * n + 10) for n in range(5)]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (RECORD, {}),
        (RECORD[1:], {"missing-here": (-10, 1)}),
        ([*RECORD, _event(9, "new", 7)], {"missing-there": (7, 1)}),
        ([*RECORD, RECORD[2]._replace(place=9)], {"duplicate": (12, 1)}),
        ([*RECORD[:4], RECORD[4]._replace(quantity=15)], {"quantity": (1, 1)}),
        ([*RECORD[:4], RECORD[4]._replace(at=END + 5)], {"timing": (-14, 1)}),
        ([*RECORD, _event(9, "x", 7, 2000)], {}),
    ],
    ids=["equal", "lost", "extra", "doubled", "off by one", "late", "of another period"],
)
def test_each_class_by_id(ours: list[Event], expected: dict[str, tuple[int, int]]) -> None:
    with _matched(ours, RECORD) as matcher:
        assert _kinds(matcher) == expected


def test_an_event_that_the_record_has_in_another_period() -> None:
    record = [*RECORD, _event(5, "id-5", 30, -1)]
    ours = [*RECORD, _event(5, "id-5", 30, 1)]
    with _matched(ours, record) as matcher:
        assert _kinds(matcher) == {"timing": (30, 1)}


def test_without_ids_by_quantity_and_window() -> None:
    record = [_event(0, "a", 5, 1), _event(1, "b", 5, 2), _event(2, "c", 5, 30)]
    ours = [_event(1, None, 5, 1.5), _event(2, None, 5, 2.1), _event(3, None, 5, 50)]
    with _matched(ours, record) as matcher:
        assert _kinds(matcher) == {"missing-here": (-5, 1), "missing-there": (5, 1)}


def test_without_ids_a_copy_is_a_duplicate() -> None:
    record = [_event(0, "a", 5, 1)]
    ours = [_event(1, None, 5, 1), _event(2, None, 5, 1.5)]
    with _matched(ours, record) as matcher:
        assert _kinds(matcher) == {"duplicate": (5, 1)}


def test_a_count_counts_events_whatever_they_hold() -> None:
    meter = builders.meter("tokens", aggregate="count")
    with _matched(RECORD[:3], RECORD, meter) as matcher:
        assert matcher.total("theirs", meter) == (5, 5)
        assert matcher.classes(meter)["missing-here"].quantity == -2


def test_a_maximum_is_explained_by_a_lone_class() -> None:
    meter = builders.meter("tokens", aggregate="max")
    with _matched(RECORD[:4], RECORD, meter) as matcher:
        assert matcher.classes(meter)["missing-here"].quantity == -1


def test_sums_beyond_64_bits_are_exact() -> None:
    huge = [_event(n, f"h-{n}", 2**62) for n in range(8)]
    with _matched(huge, []) as matcher:
        assert matcher.total("ours", TOKENS) == (2**65, 8)
        assert _kinds(matcher) == {"missing-there": (2**65, 8)}


@settings(max_examples=15, deadline=None)
@given(data=st.data(), size=st.integers(1, 60))
def test_what_is_planted_is_found_and_nothing_else(data: st.DataObject, size: int) -> None:
    record = [_event(n, f"id-{n}", n % 7 + 1, n % 900 + 5) for n in range(size)]
    fates = data.draw(
        st.lists(
            st.sampled_from(("same", "lost", "doubled", "off", "late")),
            min_size=size,
            max_size=size,
        )
    )
    ours: list[Event] = []
    for event, fate in zip(record, fates, strict=True):
        if fate == "off":
            ours.append(event._replace(quantity=event.quantity + 1))
        elif fate == "late":
            ours.append(event._replace(at=event.at + END - START))
        elif fate != "lost":
            ours += [event] * (2 if fate == "doubled" else 1)
    ours = [event._replace(place=place) for place, event in enumerate(ours, 1)]
    names = {"lost": "missing-here", "doubled": "duplicate", "off": "quantity", "late": "timing"}
    wanted = Counter((names[f], e.id) for e, f in zip(record, fates, strict=True) if f != "same")
    with _matched(ours, record) as matcher:
        assert Counter((f.kind, f.id) for f in matcher.findings()) == wanted
        gap = matcher.total("ours", TOKENS)[0] - matcher.total("theirs", TOKENS)[0]
        assert sum(total.quantity for total in matcher.classes(TOKENS).values()) == gap


def test_many_events_without_ids() -> None:
    record = [_event(n, None, 1, n % 999) for n in range(20_000)]
    with _matched(record[:-1], record) as matcher:
        assert _kinds(matcher) == {"missing-here": (-1, 1)}


def test_pairing_sees_the_adjusted_columns_and_the_period_the_raw_ones() -> None:
    hour = 3_600_000_000
    record = [_event(n, None, 1000 + n, 10 * n + 10) for n in range(5)]
    ours = [
        Event(e.place, None, "tokens", "old", 2 * e.quantity, e.at + hour) for e in record
    ]  # fmt: skip
    matcher = Matcher([TOKENS], START, END, None)
    try:
        matcher.load("ours", [ours])
        matcher.load("theirs", [record])
        matcher.adjust(
            "ours",
            subject="CASE subject WHEN 'old' THEN 's' ELSE subject END",
            quantity="quantity // 2",
            instant=f"instant - {hour}",
        )
        matcher.match()
        assert matcher.db.execute("SELECT step, count(*) FROM pairs GROUP BY 1").fetchall() == [
            ("equal", 5)
        ]
        assert _kinds(matcher) == {"timing": (-sum(e.quantity for e in record), 5)}
    finally:
        matcher.close()
