"""Pairing finds exactly what was planted, with and without ids, and its classes add up."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager

import builders
import pytest
from explaining import classes, explained, kinds
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.node.comparing.explaining import Explainer
from tallystick.node.comparing.tables import Event
from tallystick.protocol.records import Meter

START, END = 1_000_000_000, 2_000_000_000  # a period of a thousand seconds
TOKENS = builders.meter("tokens")


def _matched(
    ours: list[Event], theirs: list[Event], meter: Meter = TOKENS
) -> AbstractContextManager[Explainer]:
    return explained(ours, theirs, meter, START, END)


def _event(place: int, id_: str | None, quantity: int = 10, second: float = 10) -> Event:
    return Event(place, id_, "tokens", "s", quantity, START + int(second * 1_000_000))


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
    with _matched(ours, RECORD) as explainer:
        assert kinds(explainer) == expected


def test_an_event_that_the_record_has_in_another_period() -> None:
    record = [*RECORD, _event(5, "id-5", 30, -1)]
    ours = [*RECORD, _event(5, "id-5", 30, 1)]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {"timing": (30, 1)}


def test_without_ids_by_quantity_and_window() -> None:
    record = [_event(0, "a", 5, 1), _event(1, "b", 5, 2), _event(2, "c", 5, 30)]
    ours = [_event(1, None, 5, 1.5), _event(2, None, 5, 2.1), _event(3, None, 5, 50)]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {"missing-here": (-5, 1), "missing-there": (5, 1)}


def test_without_ids_a_copy_is_a_duplicate() -> None:
    record = [_event(0, "a", 5, 1)]
    ours = [_event(1, None, 5, 1), _event(2, None, 5, 1.5)]
    with _matched(ours, record) as explainer:
        assert kinds(explainer) == {"duplicate": (5, 1)}


def test_a_count_counts_events_whatever_they_hold() -> None:
    meter = builders.meter("tokens", aggregate="count")
    with _matched(RECORD[:3], RECORD, meter) as explainer:
        assert explainer.total("theirs", meter) == (5, 5)
        assert classes(explainer)["missing-here"].quantity == -2


def test_a_maximum_is_explained_by_a_lone_class() -> None:
    meter = builders.meter("tokens", aggregate="max")
    with _matched(RECORD[:4], RECORD, meter) as explainer:
        assert classes(explainer)["missing-here"].quantity == -1


def test_sums_beyond_64_bits_are_exact() -> None:
    huge = [_event(n, f"h-{n}", 2**62) for n in range(8)]
    with _matched(huge, []) as explainer:
        assert explainer.total("ours", TOKENS) == (2**65, 8)
        assert kinds(explainer) == {"missing-there": (2**65, 8)}


@settings(max_examples=15)
@given(data=st.data(), size=st.integers(1, 60))
def test_what_is_planted_is_found_and_nothing_else(data: st.DataObject, size: int) -> None:
    record = [_event(n, f"id-{n}", n % 7 + 1, 15 * n + 5) for n in range(size)]
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
    with _matched(ours, record) as explainer:
        assert Counter((f.kind, f.id) for f in explainer.findings()) == wanted
        gap = explainer.total("ours", TOKENS)[0] - explainer.total("theirs", TOKENS)[0]
        assert sum(total.quantity for total in classes(explainer).values()) == gap


def test_many_events_without_ids() -> None:
    record = [_event(n, None, 1, n % 999) for n in range(20_000)]
    with _matched(record[:-1], record) as explainer:
        assert kinds(explainer) == {"missing-here": (-1, 1)}
