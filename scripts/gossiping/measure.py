"""What is measured in a world, as plain numbers."""

from __future__ import annotations

import gc
import hashlib
import time
import tracemalloc
from statistics import mean
from typing import Any

from gossiping.world import BEGIN, TICKS, Plan, World, check_stand_in, make_item
from tallystick.protocol.gossip import Gossip
from tallystick.protocol.items import Carried, Item

Figures = dict[str, Any]


def run_world(plan: Plan) -> Figures:
    """Run a world from its beginning, and tell."""
    gc.disable()  # there are millions of objects and no cycles among them
    started = time.process_time()
    world = World(plan)
    world.begin()
    world.run(plan.warm_minutes)
    world.count_anew()
    world.run(plan.cost_minutes)
    costs = _costs(world)
    if plan.partition_minutes:
        world.cut_off(1 / 3)
    world.equivocate()
    if plan.partition_minutes:
        world.run(plan.partition_minutes)
        world.heal()
    world.run(plan.minutes - plan.partition_minutes)
    gc.enable()
    return _figures(world) | costs | {"processor_seconds": round(time.process_time() - started)}


def _costs(world: World) -> Figures:
    """What the honest nodes received while nothing out of the way happened."""
    hours = (world.tick - world.counting_from) / TICKS / 3600
    honest = [node for node in range(world.plan.nodes) if node not in world.silent]
    return {
        "bytes_an_hour": spread_of([world.bytes_to[node] / hours for node in honest]),
        "items_an_hour": spread_of([world.items_to[node] / hours for node in honest]),
        "messages_an_hour": spread_of([world.messages_to[node] / hours for node in honest]),
        "lies": world.lies,
    }


def _figures(world: World) -> Figures:
    plan = world.plan
    honest = [node for node in range(plan.nodes) if node not in world.silent]
    stats = [world.nodes[node].stats() for node in honest]
    forks = list(world.forks.values())
    honest_peers = [fork for fork in forks if fork.log.peer not in world.silent]
    refused: dict[str, int] = {}
    for one in stats:
        for reason, count in one.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    return {
        "nodes": plan.nodes,
        "channels": plan.channels,
        "pseudonyms": len(world.logs),
        "silent": plan.silent,
        "lying": plan.lying,
        "partition_minutes": plan.partition_minutes,
        "seed": plan.seed,
        "cost_minutes": plan.cost_minutes,
        "minutes": plan.minutes,
        "degrees": spread_of([len(around) for around in world.neighbours]),
        "forks": len(forks),
        "forks_apart": world.apart,
        "neighbour_seconds": _times(fork.neighbour_at for fork in forks),
        "peers": len(honest_peers),
        "peer_seconds": _times(fork.peer_at for fork in honest_peers),
        "nodes_that_know": spread_of([len(fork.nodes) for fork in forks]),
        "rejoins": world.rejoins,
        "rejoin_seconds": _times(iter(world.rejoin_seconds)),
        "items_held": spread_of([one.items for one in stats]),
        "unsent": sum(one.unsent for one in stats),
        "refused": refused,
    }


def _times(values: Any) -> list[float]:
    return sorted(round(value, 1) for value in values if value is not None)


def spread_of(values: list[float] | list[int]) -> dict[str, float]:
    """Mean, median, the 99th percentile and the largest."""
    ordered = sorted(values) or [0]
    return {
        "mean": round(mean(ordered), 1),
        "median": round(quantile(ordered, len(ordered), 0.5) or 0, 1),
        "p99": round(quantile(ordered, len(ordered), 0.99) or 0, 1),
        "max": round(ordered[-1], 1),
    }


def quantile(ordered: list[Any], total: int, share: float) -> float | None:
    """The value that this share of all does not exceed; None if so many never came."""
    at = max(0, -int(-share * total // 1) - 1)
    return ordered[at] if at < len(ordered) else None


def bytes_an_item(count: int = 4_000) -> float:
    """Memory that a held item takes in an engine, with the item itself and its accounts."""
    names = [str(number) for number in range(10)]
    node = Gossip(bytes(16), verify=check_stand_in)
    for name in names:
        node.connected(name, BEGIN)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            item = make_item(hashlib.sha256(str(number).encode()).digest(), number)
            sealed = bytes(bytearray(item.sealed))  # a copy of its own, as one that was received
            item = Item(
                item.epoch, item.pseudonym, item.rank, item.commitment, sealed, item.signature
            )
            now = BEGIN + number
            node.receive(names[number % 10], [Carried(1, item)], [], now)
            # Half of all are brought by a second neighbour too.
            if number % 2:
                node.receive(names[(number + 1) % 10], [Carried(2, item)], [], now)
            node.round(now)
        return (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
