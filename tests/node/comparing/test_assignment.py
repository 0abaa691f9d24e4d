"""The assignment is as good as any: compared with trying every one."""

from __future__ import annotations

from itertools import combinations, permutations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.comparing.assignment import assign
from tallystick.node.comparing.nearby import CELLS_MAX, distance, pair_cluster

COSTS = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 4)), st.integers(0, 9), max_size=14
)
POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(95, 105)), max_size=4).map(sorted)


def _best(costs: dict[tuple[int, int], int]) -> tuple[int, int]:
    """Most pairs and minus their cost, by trying every way."""
    lefts, rights = sorted({i for i, _ in costs}), sorted({j for _, j in costs})
    ways = [(0, 0)]
    for size in range(1, min(len(lefts), len(rights)) + 1):
        for some in combinations(lefts, size):
            for others in permutations(rights, size):
                pairs = list(zip(some, others, strict=True))
                if all(pair in costs for pair in pairs):
                    ways.append((size, -sum(costs[pair] for pair in pairs)))
    return max(ways)


@given(COSTS)
def test_no_way_has_more_pairs_or_costs_less(costs: dict[tuple[int, int], int]) -> None:
    found = assign(costs)
    assert len(set(found.values())) == len(found)
    assert (len(found), -sum(costs[pair] for pair in found.items())) == _best(costs)


@given(POINTS, POINTS, st.integers(0, 5))
def test_a_cluster_is_assigned_as_well_as_can_be(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]], window: int
) -> None:
    costs = {
        (i, j): cost
        for i, mine in enumerate(ours)
        for j, other in enumerate(theirs)
        if (cost := distance(mine, other, window, 2)) is not None
    }
    found = pair_cluster(ours, theirs, window, 2)
    assert (len(found), -sum(costs[i, j] for i, j, _ in found)) == _best(costs)
    for i, j, likely in found:
        rivals = [pair for pair in costs if (pair[0] == i) != (pair[1] == j)]
        assert likely == (not rivals)


def test_a_crowded_cluster_pairs_one_to_one_and_is_sure_of_nothing() -> None:
    ours = [(n, 1000 + n % 3) for n in range(80)]
    theirs = [(n + 1, 1001) for n in range(80)]
    assert len(ours) * len(theirs) > CELLS_MAX
    found = pair_cluster(ours, theirs, 10, 1)
    assert len({i for i, _, _ in found}) == len({j for _, j, _ in found}) == len(found) > 70
    assert not any(likely for _, _, likely in found)
