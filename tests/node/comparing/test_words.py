"""Numbers for reading never say nothing of what is something, nor all of what is not all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.comparing.drawings import Bar, compact, waterfall_drawing
from tallystick.node.comparing.words import percent, relative


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (1, 2, "50%"),
        (-1, 2, "-50%"),
        (-1, -2, "50%"),
        (2, 2, "100%"),
        (0, 5, "0%"),
        (1, 1000, "<1%"),
        (-1, 1000, "-<1%"),
        (999_999, 1_000_000, "~100%"),
        (9_999, 10_000, "~100%"),
        (996, 1000, "99.6%"),
        (-(10**9), 1, "->9999%"),
        (3, 0, ""),
    ],
)
def test_shares(part: int, whole: int, said: str) -> None:
    assert percent(part, whole) == said


@given(st.integers(-(10**30), 10**30), st.integers(-(10**30), 10**30).filter(bool))
def test_a_share_is_0_or_100_percent_only_if_it_is(part: int, whole: int) -> None:
    assert (percent(part, whole) == "0%") == (part == 0)
    assert (percent(part, whole) == "100%") == (part == whole)


@pytest.mark.parametrize(
    ("difference", "base", "said"),
    [
        (-24, 18_444, "-0.13%"),
        (5, 100, "+5.0%"),
        (50, 100, "+50%"),
        (-1, 10**9, "less than 0.0001%"),
        (123_456, 1, "+12,345,600%"),
        (1, 400, "+0.25%"),
        (27, 1_000_000, "+0.0027%"),
        (5, 0, "none there"),
    ],
)
def test_how_far_from_the_record(difference: int, base: int, said: str) -> None:
    assert relative(difference, base) == said


@pytest.mark.parametrize(
    ("value", "scale", "said"),
    [
        (0, 0, "0"),
        (999, 0, "999"),
        (999_700, 0, "1 M"),
        (-20_800, 0, "-20.8 k"),
        (18_444_477, 0, "18.4 M"),
        (1250, 2, "12.5"),
        (1, 6, "1.0e-06"),
        (10**24, 6, "1 E"),
        (10**40, 6, "1.0e+34"),
    ],
)
def test_a_quantity_in_a_few_characters(value: int, scale: int, said: str) -> None:
    assert compact(value, scale) == said


@given(
    st.integers(-(10**20), 10**20),
    st.lists(st.integers(-(10**20), 10**20), min_size=1, max_size=6),
)
def test_no_bar_leaves_the_drawing(total: int, steps: list[int]) -> None:
    bars, level = [Bar("their total", "total", 0, total)], total
    for step in steps:
        bars.append(Bar("a step", "cause", level, level + step))
        level += step
    drawn = waterfall_drawing("1", "m", [*bars, Bar("our total", "total", 0, level)], 0)
    for part in drawn.split("<rect ")[1:]:
        x, width = (float(part.split(f'{name}="')[1].split("%")[0]) for name in ("x", "width"))
        assert x >= 0
        assert width > 0
        assert x + width <= 100
