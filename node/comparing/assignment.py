"""The cheapest assignment of two small sets: most pairs first, then the least cost in all.

Successive shortest augmenting paths, over the edges that there are and not over a matrix: after
each path the pairs are the cheapest of their number, and when there is no path there are no more.
"""

from __future__ import annotations

from collections.abc import Mapping

Costs = Mapping[tuple[int, int], int]


def assign(costs: Costs) -> dict[int, int]:
    """Left to right, given what each possible pair (left, right) costs; costs are not negative.

    Equal inputs give equal results. With n lefts and e edges it takes about n² · e steps at most.
    """
    edges: dict[int, list[tuple[int, int]]] = {}
    for (left, right), cost in sorted(costs.items()):
        edges.setdefault(left, []).append((right, cost))
    right_of: dict[int, int] = {}
    left_of: dict[int, int] = {}
    while path := _augmenting(edges, costs, right_of, left_of):
        for left, right in path:
            right_of[left], left_of[right] = right, left
    return right_of


def _augmenting(
    edges: Mapping[int, list[tuple[int, int]]],
    costs: Costs,
    right_of: Mapping[int, int],
    left_of: Mapping[int, int],
) -> list[tuple[int, int]]:
    """The pairs of the cheapest path from a free left to a free right; none if there is no path."""
    distance = {left: 0 for left in edges if left not in right_of}
    came: dict[int, int] = {}  # right to the left before it on the cheapest path
    reached: dict[int, int] = {}
    queue = list(distance)
    while queue:
        later: dict[int, None] = {}
        for left in queue:
            for right, cost in edges[left]:
                value = distance[left] + cost
                if right_of.get(left) == right or value >= reached.get(right, value + 1):
                    continue
                reached[right], came[right] = value, left
                owner = left_of.get(right)
                if owner is not None:
                    back = value - costs[owner, right]
                    if back < distance.get(owner, back + 1):
                        distance[owner] = back
                        later[owner] = None
        queue = list(later)
    free = [(value, right) for right, value in reached.items() if right not in left_of]
    if not free:
        return []
    path: list[tuple[int, int]] = []
    step: int | None = min(free)[1]
    while step is not None:
        left = came[step]
        path.append((left, step))
        step = right_of.get(left)
    return path
