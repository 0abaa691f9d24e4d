"""How a cause is told: both ends of a stretch differ, however short it is."""

from __future__ import annotations

from datetime import datetime

import pytest

from tallystick.node.comparing.causes.telling import show_bounds

AT = 1_700_000_060_060_000


@pytest.mark.parametrize(
    ("length_us", "bounds"),
    [
        (60_000_000, ("2023-11-14T22:14:20Z", "2023-11-14T22:15:20Z")),
        (199_801, ("2023-11-14T22:14:20.060000Z", "2023-11-14T22:14:20.259801Z")),
        (1, ("2023-11-14T22:14:20.060000Z", "2023-11-14T22:14:20.060001Z")),
    ],
)
def test_the_ends_of_a_stretch_differ(length_us: int, bounds: tuple[str, str]) -> None:
    assert show_bounds(AT, AT + length_us) == bounds
    since, until = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in bounds)
    assert since < until
