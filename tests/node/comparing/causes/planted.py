"""Events of one day with known causes planted: what the tests of causes compare."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import builders

from tallystick.node.comparing.explaining import Explained, compare_events
from tallystick.node.comparing.tables import Event
from tallystick.protocol.compare import Cause
from tallystick.protocol.periods import Period
from tallystick.protocol.records import Meter

SECOND, HOUR = 1_000_000, 3_600_000_000
START = builders.OCTOBER_US
DAY = Period("2026-10-01", START, START + 24 * HOUR)
TOKENS = builders.meter("tokens")  # events match within two seconds

Change = Callable[[Event], Event]


def usage(size: int = 480, seed: int = 1, ids: bool = True, name: str = "tokens") -> list[Event]:
    """Events of a day and an hour on both sides of it, of six subjects in two regions."""
    rng = random.Random(seed)
    subjects = [f"{region}-key-{n}" for region in ("eu", "us") for n in range(3)]
    return [
        Event(
            place,
            f"req-{seed}{place:05}" if ids else None,
            name,
            rng.choice(subjects),
            rng.randint(1, 4000),
            START - HOUR + place * 26 * HOUR // size + rng.randrange(HOUR // size),
        )
        for place in range(size)
    ]


def each(events: Sequence[Event], change: Change) -> list[Event]:
    """All events, changed."""
    return [change(event) for event in events]


def compared(
    ours: Sequence[Event], theirs: Sequence[Event], meters: Sequence[Meter] = (TOKENS,)
) -> Explained:
    """The comparison of a day; places are made unique, and all must add up."""
    found = compare_events(
        meters,
        DAY,
        [event._replace(place=n) for n, event in enumerate(ours, 1)],
        [event._replace(place=n) for n, event in enumerate(theirs, 1)],
    )
    for meter in found.meters:
        parts = [cause for cause in found.causes if cause.meter == meter.meter]
        for name, total in meter.classes.items():
            of_class = [cause for cause in parts if cause.klass == name]
            rows = sum(c.events for c in of_class if c.kind != "rename-subject")
            assert rows <= total.events
        if meter.meter in {m.name for m in meters if m.aggregate != "max"}:
            assert meter.unexplained == 0
    return found


def kinds(found: Explained) -> list[str]:
    """The kinds of the causes, in their order."""
    return [cause.kind for cause in found.causes]


def only(found: Explained) -> Cause:
    """The one cause that was found."""
    (cause,) = found.causes
    return cause


def inside(events: Sequence[Event]) -> list[Event]:
    """Those of the day."""
    return [event for event in events if DAY.start_us <= event.at < DAY.end_us]


def total(events: Sequence[Event]) -> int:
    """What they add up to in the day."""
    return sum(event.quantity for event in inside(events))
