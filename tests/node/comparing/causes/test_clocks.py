"""Stretches of a clock: of all ways to cut labels into stretches, one that explains most."""

from __future__ import annotations

from itertools import pairwise, product

import numpy
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.comparing.causes.clocks import PAIRS_MIN, SWITCH_PAIRS, find_clocks, runs
from tallystick.node.comparing.causes.hints import QUARTER_US, Hints

VALUES = [0, 4]
FEW = st.lists(st.sampled_from([0, 4, 9]), min_size=1, max_size=9)
MANY = st.lists(st.tuples(st.sampled_from([0, 4, 9]), st.integers(1, 40)), min_size=1, max_size=9)


def _cost(labels: list[int], path: list[int]) -> int:
    wrong = sum(label != value for label, value in zip(labels, path, strict=True))
    return wrong + SWITCH_PAIRS * sum(a != b for a, b in pairwise(path))


def _path(parts: list[tuple[int, int, int]]) -> list[int]:
    return [value for start, end, value in parts for _ in range(start, end)]


@given(FEW)
def test_no_way_costs_less(labels: list[int]) -> None:
    total, parts = runs(numpy.array(labels), numpy.array(VALUES))
    assert total == _cost(labels, _path(parts))
    ways = product(VALUES, repeat=len(labels))
    assert total == min(_cost(labels, list(way)) for way in ways)


@given(MANY)
def test_long_stretches_cost_what_is_said(stretches: list[tuple[int, int]]) -> None:
    labels = [label for label, many in stretches for _ in range(many)]
    total, parts = runs(numpy.array(labels), numpy.array(VALUES))
    path = _path(parts)
    assert total == _cost(labels, path)
    assert total <= min(_cost(labels, [value] * len(labels)) for value in VALUES)
    alike = [label if label in VALUES else VALUES[0] for label in labels]
    assert total <= _cost(labels, alike)


def test_two_halves_far_apart_have_a_middle() -> None:
    """The mean of two middle pairs would be near no pair at all."""
    count = 2 * PAIRS_MIN
    events = numpy.arange(count)
    theirs = events * 60_000_000
    ours = theirs + numpy.where(events < PAIRS_MIN, 0, 3 * QUARTER_US)
    names = numpy.array(["m"] * count)
    twice = (names, names)
    hints = Hints(True, events, events, *twice, *twice, events, events, ours, theirs, *twice)
    found = find_clocks(hints, 0)
    assert found is not None
    assert [stretch.shift_us for stretch in found.stretches] == [3 * QUARTER_US]
