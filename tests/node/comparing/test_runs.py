"""Runs: as many pairs as there can be, and in short runs the closest ones."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.comparing.runs import CELLS_MAX, pair_run

TIMES = st.lists(st.integers(0, 12), max_size=5).map(sorted)


def _best(ours: list[int], theirs: list[int], window: int) -> tuple[int, int]:
    """Most pairs and minus their distance, by trying every way to pair without crossing."""
    ways = [(0, 0)]
    for size in range(1, min(len(ours), len(theirs)) + 1):
        for mine in combinations(ours, size):
            for other in combinations(theirs, size):
                apart = [abs(a - b) for a, b in zip(mine, other, strict=True)]
                if max(apart) <= window:
                    ways.append((size, -sum(apart)))
    return max(ways)


@given(TIMES, TIMES, st.integers(0, 5))
def test_a_short_run_is_paired_as_well_as_can_be(
    ours: list[int], theirs: list[int], window: int
) -> None:
    pairs = pair_run(ours, theirs, window)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    apart = [abs(ours[i] - theirs[j]) for i, j in pairs]
    assert all(gap <= window for gap in apart)
    assert (len(pairs), -sum(apart)) == _best(ours, theirs, window)


def test_the_nearest_is_taken_and_not_the_first() -> None:
    assert pair_run([10], [8, 11], 2) == [(0, 1)]


def test_fewer_left_over_comes_before_nearer() -> None:
    assert pair_run([0, 3, 6], [2, 5, 8], 2) == [(0, 0), (1, 1), (2, 2)]


def test_a_long_run_leaves_over_only_what_has_no_partner() -> None:
    ours = list(range(0, 600, 2))
    theirs = [at + 1 for at in ours if at != 200]
    assert len(ours) * len(theirs) > CELLS_MAX
    pairs = pair_run(ours, theirs, 1)
    assert len(pairs) == len(theirs)
    assert all(abs(ours[i] - theirs[j]) <= 1 for i, j in pairs)
