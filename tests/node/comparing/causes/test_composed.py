"""Causes together: each is named with its own part, and the parts are the gap to the last unit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import HOUR, SECOND, compared, each, kinds, total, usage

from tallystick.node.comparing.tables import Event

List = list[Event]


def _zone(events: List) -> List:
    return each(events, lambda e: e._replace(at=e.at - 3 * HOUR))


def _unit(events: List) -> List:
    return each(events, lambda e: e._replace(quantity=e.quantity * 1024))


def _steps(events: List) -> List:
    return each(events, lambda e: e._replace(quantity=-(-e.quantity // 50) * 50))


def _lag(events: List) -> List:
    return each(events, lambda e: e._replace(at=e.at + 400 * SECOND))


def _names(events: List) -> List:
    return each(events, lambda e: e._replace(subject=f"acct/{e.subject}"))


def _feed(events: List) -> List:
    return [e for e in events if not e.subject.endswith("eu-key-1")]


def _retry(events: List) -> List:
    copies = [e._replace(id=f"{e.id}-r1", at=e.at + SECOND) for e in events[::25]]
    return [*events, *copies]


def _sample(events: List) -> List:
    rng = random.Random(9)
    return [e for e in events if rng.randrange(3) == 0]


PLANTS: dict[str, Callable[[List], List]] = {
    "missing-feed": _feed,
    "sampling": _sample,
    "retry": _retry,
    "factor": _unit,
    "rounding": _steps,
    "rename-subject": _names,
    "lag": _lag,
    "offset": _zone,
}


def _planted(theirs: List, names: list[str]) -> List:
    """Our side: what the causes make of theirs, in their order."""
    ours = theirs
    for name, plant in PLANTS.items():
        if name in names:
            ours = plant(ours)
    return ours


@pytest.mark.parametrize(
    "names",
    [
        ["offset", "factor"],
        ["offset", "lag"],
        ["factor", "rounding"],
        ["missing-feed", "sampling"],
        ["retry", "rename-subject", "offset"],
        ["missing-feed", "retry", "factor", "offset"],
        ["sampling", "rounding", "rename-subject", "lag"],
    ],
    ids="+".join,
)
def test_by_id(names: list[str]) -> None:
    theirs = usage(1500)
    ours = _planted(theirs, names)
    found = compared(ours, theirs)
    assert sorted(set(kinds(found))) == sorted(names)
    gap = total(ours) - total(theirs)
    assert sum(cause.quantity for cause in found.causes) == gap


@pytest.mark.parametrize(
    "names",
    [["offset", "factor"], ["missing-feed", "offset", "rounding"], ["rename-subject", "lag"]],
    ids="+".join,
)
def test_without_ids(names: list[str]) -> None:
    theirs = usage(1500, ids=False)
    ours = _planted(theirs, names)
    found = compared(ours, theirs)
    assert sorted(set(kinds(found))) == sorted(names)
    assert sum(c.quantity for c in found.causes) == total(ours) - total(theirs)


def test_an_event_that_two_causes_change_is_split_in_their_order() -> None:
    theirs = usage()
    ours = _unit(_zone(theirs))
    by_kind = {c.kind: c.quantity for c in compared(ours, theirs).causes}
    moved = total(_zone(theirs)) - total(theirs)  # the zone counts in the record's units
    assert by_kind == {"offset": moved, "factor": total(ours) - total(theirs) - moved}


@settings(max_examples=8)
@given(
    names=st.lists(st.sampled_from(sorted(PLANTS)), unique=True, max_size=4),
    lost=st.sets(st.integers(0, 239), max_size=20),
    changed=st.dictionaries(st.integers(0, 239), st.integers(-5000, 5000), max_size=20),
    turned=st.booleans(),
    ids=st.booleans(),
)
def test_whatever_differs_adds_up(
    names: list[str], lost: set[int], changed: dict[int, int], turned: bool, ids: bool
) -> None:
    theirs = usage(240, ids=ids)
    ours = [
        e._replace(quantity=changed.get(n, e.quantity))
        for n, e in enumerate(_planted(theirs, names))
        if n not in lost
    ]
    if turned:
        ours, theirs = theirs, ours
    found = compared(ours, theirs)
    (meter,) = found.meters
    assert meter.difference == total(ours) - total(theirs)
    assert meter.unexplained == 0
