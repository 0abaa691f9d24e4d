"""What a cause may contribute: all amounts that some order of the causes gives it.

Where causes compose, a part of the difference may be two causes' work: requests that one side lost
and the other counts in another unit. From their total to ours leads a path on which each of their
causes is undone and each of ours is done, and whoever explains may take any. A cause's amount is in
the range of its steps on all these paths; a cause that is alone has one amount.
"""

from __future__ import annotations

from itertools import combinations

from worlds.causes import Planted
from worlds.observing import hypothetical
from worlds.world import World, first_rows

Range = tuple[int, int]  # the least and the most


def ranges(world: World) -> list[dict[str, Range]]:
    """For each cause of a world, what it may contribute to ours minus theirs, by meter."""
    causes = [truth.planted for truth in world.causes]
    found = [{name: (q, q) for name, q in truth.quantity.items()} for truth in world.causes]
    if len(causes) < 2:
        return found
    counted: dict[tuple[int, ...], dict[str, int]] = {}
    for size in range(len(causes) + 1):
        for chosen in combinations(range(len(causes)), size):
            some: list[Planted] = [causes[n] for n in chosen]
            rows = first_rows(world.usages, world.plan)
            counted[chosen] = hypothetical(rows, some, world.seed, world.setting, world.plan)
    for place, cause in enumerate(causes):
        sign = 1 if cause.side == "ours" else -1
        for chosen, before in counted.items():
            if place not in chosen:
                after = counted[tuple(sorted((*chosen, place)))]
                for name, (low, high) in found[place].items():
                    step = sign * (after[name] - before[name])
                    found[place][name] = (min(low, step), max(high, step))
    return found
