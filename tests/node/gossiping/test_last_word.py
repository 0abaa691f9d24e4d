"""At the pace of real nodes, through strangers: both of two copies hear of each other."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from gossips import NOW, Net, key_of, public_of

from tallystick.node.gossiping.presences import AHEAD_MS, LATER_MS
from tallystick.node.gossiping.talker import PRESENCE_SECONDS
from tallystick.protocol.blinding import OpenedPresence, Veil, epoch_at, presence_secret
from tallystick.protocol.gossip_words import Conflicted, Event, Heard
from tallystick.protocol.items import HOPS_MAX, Carried, Item

SECRET = presence_secret(bytes(32))
VEIL = Veil(SECRET, public_of("acme"), "presence", epoch_at(SECRET, NOW))
PATIENCE_SECONDS = 3600.0


class Copy:
    """One of two processes of acme, at one end of a chain of nodes."""

    def __init__(self, net: Net, node: str, dice: Random) -> None:
        self.net, self.node, self._dice = net, node, dice
        self.began_ms = int(net.now * 1000)
        self.speaks_at = net.now
        self.stopped = False
        self._read = 0
        net.start(node, [VEIL.pseudonym])

    def word(self, at_ms: int) -> Item:
        return VEIL.make_presence(key_of("acme"), at_ms, self.node.encode().ljust(16), 0)

    def act(self) -> None:
        """Speak about once a minute, until the other one was heard of."""
        now = self.net.now
        events = self.net.events[self.node]
        heard = [item for event in events[self._read :] for item in _items(event)]
        self._read = len(events)
        for said in map(VEIL.open_presence, heard):
            if not self.stopped and self._is_anothers(said):
                self.stopped = True
                last = Carried(0, self.word(said.at_ms + AHEAD_MS))
                for other in self.net.around(self.node):
                    node = self.net.nodes[other]
                    self.net.events[other] += node.receive(self.node, [last], [], now)
        if not self.stopped and now >= self.speaks_at:
            self.speaks_at = now + PRESENCE_SECONDS * self._dice.uniform(0.5, 1.5)
            self.net.publish(self.node, self.word(int(now * 1000)))

    def _is_anothers(self, said: OpenedPresence) -> bool:
        other = said.incarnation != self.node.encode().ljust(16)
        return other and said.at_ms >= self.began_ms + LATER_MS


def _items(event: Event) -> tuple[Item, ...]:
    """What is read of an event; both may speak in the same millisecond."""
    match event:
        case Heard():
            return (event.item,)
        case Conflicted():
            return event.conflict.first, event.conflict.second
        case _:
            return ()


def both_stop(hops: int, seed: int) -> tuple[float, float]:
    """Seconds after the second one began until one of two copies stopped, and until both had."""
    dice = Random(f"{seed}")
    chain = ["here", *(f"{seed}-{number}" for number in range(hops - 1)), "there"]
    net = Net(pairwise(chain))
    net.stop("there")
    copies = [Copy(net, "here", dice)]
    # It has spoken for a while, so what it says is passed on at its pace.
    begins = net.now + dice.uniform(600, 4000)
    while net.now < begins:
        net.run()
        copies[0].act()
    copies.append(Copy(net, "there", dice))
    times: list[float] = []
    while len(times) < 2:
        net.run()
        for copy in copies:
            copy.act()
        times += [net.now - begins] * (sum(copy.stopped for copy in copies) - len(times))
        assert net.now < begins + PATIENCE_SECONDS, "one of them goes on"
    return times[0], times[1]


@pytest.mark.parametrize("hops", range(2, HOPS_MAX + 1))
def test_both_of_two_copies_stop_through_as_many_nodes_as_gossip_passes(hops: int) -> None:
    for seed in range(5):
        both_stop(hops, seed)
