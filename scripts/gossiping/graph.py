"""Who has channels with whom: degrees as business has them, a few hubs and many small parties."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from random import Random

EXPONENT = 1.3  # of the weights' Pareto distribution: degrees fall off with the power 2.3


def make_graph(nodes: int, channels: int, dice: Random) -> list[tuple[int, int]]:
    """Pairs of nodes, each pair once. Every node has a channel, and all hang together."""
    weights = [min(dice.paretovariate(EXPONENT), nodes / 20) for _ in range(nodes)]
    order = sorted(range(nodes), key=lambda node: -weights[node])
    pairs: set[tuple[int, int]] = set()
    placed: list[int] = []
    sums: list[float] = []
    total = 0.0
    for node in order:
        if placed:
            other = placed[bisect(sums, dice.random() * total)]
            pairs.add((min(node, other), max(node, other)))
        total += weights[node]
        placed.append(node)
        sums.append(total)
    cumulated = list(accumulate(weights))
    while len(pairs) < channels:
        one, other = dice.choices(range(nodes), cum_weights=cumulated, k=2)
        if one != other:
            pairs.add((min(one, other), max(one, other)))
    return sorted(pairs)
