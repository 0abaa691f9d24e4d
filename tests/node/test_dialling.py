"""Who is dialled and when: soon after a link ended, ever more seldom, and never all at once."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any, cast

import trio

from tallystick.node.dialling import A_SECOND, AT_ONCE, MAX_SECONDS, Dialler
from tallystick.node.errors import PeerUnreachable


class Network:
    """A network on which each peer is away, or answers after a while."""

    def __init__(self, *, away: bool = True, seconds: float = 0.0) -> None:
        self.away, self.seconds = away, seconds
        self.dialled: list[tuple[float, str]] = []
        self.linked: set[str] = set()
        self.connecting = self.most = 0
        self.dialler = Dialler(self.connect, self.serve, self.may_dial, Random(1))

    async def connect(self, name: str) -> Any:
        self.dialled.append((trio.current_time(), name))
        self.connecting += 1
        self.most = max(self.most, self.connecting)
        await trio.sleep(self.seconds)
        self.connecting -= 1
        if self.away:
            raise PeerUnreachable(name)
        return cast(Any, None)

    async def serve(self, stream: Any, name: str) -> None:
        self.linked.add(name)
        await trio.sleep(60)
        self.linked.discard(name)

    def may_dial(self, name: str) -> bool:
        return name not in self.linked


async def test_a_peer_that_is_away_is_dialled_ever_more_seldom(autojump_clock: object) -> None:
    network = Network()
    async with trio.open_nursery() as nursery:
        network.dialler.start(nursery)
        network.dialler.add("beta.example")
        network.dialler.add("beta.example")  # it is to be dialled already
        await trio.sleep(600)
        nursery.cancel_scope.cancel()
    times = [at for at, _ in network.dialled]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[0] < 1
    assert max(waits) <= MAX_SECONDS
    assert min(waits[-5:]) >= MAX_SECONDS / 2


async def test_a_link_that_held_is_made_again_at_once(autojump_clock: object) -> None:
    network = Network(away=False)
    async with trio.open_nursery() as nursery:
        network.dialler.start(nursery)
        network.dialler.add("beta.example")
        await trio.sleep(190)
        nursery.cancel_scope.cancel()
    assert len(network.dialled) == 4  # each link held for a minute


async def test_ten_thousand_that_are_away_are_dialled_in_turn(autojump_clock: object) -> None:
    network = Network(seconds=2)
    names = [f"consumer-{number}.example" for number in range(10_000)]
    async with trio.open_nursery() as nursery:
        network.dialler.start(nursery)
        for name in names:
            network.dialler.add(name)
        await trio.sleep(100)
        assert network.most == AT_ONCE
        assert len(network.dialled) <= 100 * A_SECOND
        await trio.sleep(400)
        nursery.cancel_scope.cancel()
    assert {name for _, name in network.dialled} == set(names)
