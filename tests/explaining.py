"""Two lists of events through the whole explainer: for the tests of what pairs and what differs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tallystick.node.comparing.explaining import Explainer
from tallystick.node.comparing.tables import Event
from tallystick.protocol.compare import ClassTotal
from tallystick.protocol.records import Meter


@contextmanager
def explained(
    ours: list[Event],
    theirs: list[Event],
    meter: Meter,
    start_us: int,
    end_us: int,
    zone: str = "UTC",
) -> Iterator[Explainer]:
    """Events of one meter, explained in memory, with the causes numbered."""
    explainer = Explainer([meter], start_us, end_us, None, zone)
    try:
        explainer.load("ours", [ours])
        explainer.load("theirs", [theirs])
        explainer.explain()
        explainer.comparisons("consumer")
        yield explainer
    finally:
        explainer.close()


def classes(explainer: Explainer) -> dict[str, ClassTotal]:
    """What each class of the one meter contributes."""
    ((compared,), _) = explainer.comparisons("consumer")
    return dict(compared.classes)


def kinds(explainer: Explainer) -> dict[str, tuple[int, int]]:
    """The same as plain numbers: the quantity and the events."""
    return {kind: (t.quantity, t.events) for kind, t in classes(explainer).items()}
