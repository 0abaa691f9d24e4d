"""Runs: as many pairs as there can be, and in short runs the closest ones."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.comparing.runs import AS_GOOD, CELLS_MAX, pair_run

TIMES = st.lists(st.integers(0, 40), max_size=4).map(sorted)


def _ways(ours: list[int], theirs: list[int], window: int) -> list[list[tuple[int, int]]]:
    """Every way to pair without crossing."""
    ways: list[list[tuple[int, int]]] = [[]]
    for size in range(1, min(len(ours), len(theirs)) + 1):
        for mine in combinations(range(len(ours)), size):
            for other in combinations(range(len(theirs)), size):
                way = list(zip(mine, other, strict=True))
                if all(abs(ours[i] - theirs[j]) <= window for i, j in way):
                    ways.append(way)
    return ways


@given(TIMES, TIMES, st.integers(0, 25))
def test_a_short_run_is_paired_as_well_as_can_be(
    ours: list[int], theirs: list[int], window: int
) -> None:
    def goodness(way: list[tuple[int, int]]) -> tuple[int, int]:
        return len(way), -sum(abs(ours[i] - theirs[j]) for i, j in way)

    found = pair_run(ours, theirs, window)
    pairs = [(i, j) for i, j, _ in found]
    ways = _ways(ours, theirs, window)
    best = max(map(goodness, ways))
    assert goodness(pairs) == best
    good = [
        way
        for way in ways
        if len(way) == best[0] and goodness(way)[1] >= best[1] - window // AS_GOOD
    ]
    for i, j, likely in found:
        always = all(i in dict(way) and j in dict(way).values() for way in good)
        assert likely == always


def test_the_nearest_is_taken_and_not_the_first() -> None:
    assert pair_run([10], [8, 11], 2) == [(0, 1, True)]


def test_which_of_two_as_near_is_meant_is_only_possible() -> None:
    assert [likely for _, _, likely in pair_run([10], [8, 12], 2)] == [False]


def test_fewer_left_over_comes_before_nearer() -> None:
    assert pair_run([0, 3, 6], [2, 5, 8], 2) == [(0, 0, True), (1, 1, True), (2, 2, True)]


def test_a_long_run_leaves_over_only_what_has_no_partner() -> None:
    ours = list(range(0, 600, 2))
    theirs = [at + 1 for at in ours if at != 200]
    assert len(ours) * len(theirs) > CELLS_MAX
    pairs = pair_run(ours, theirs, 1)
    assert len(pairs) == len(theirs)
    assert all(abs(ours[i] - theirs[j]) <= 1 for i, j, _ in pairs)
    assert not any(likely for _, _, likely in pairs)
    assert all(likely for _, _, likely in pair_run(ours, ours, 1))
