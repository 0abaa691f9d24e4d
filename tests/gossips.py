"""Parties that gossip, for tests: their keys, their veils, and nodes that send each other news."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from nacl.signing import SigningKey

from tallystick.protocol.blinding import About, Veil, channel_secret, epoch_at
from tallystick.protocol.gossip import Gossip
from tallystick.protocol.gossip_words import ROUND_SECONDS, Event, Limits
from tallystick.protocol.items import Item

NOW = 1_796_000_000.0


def digest(*parts: object) -> bytes:
    """32 bytes that follow from anything."""
    return hashlib.sha256(repr(parts).encode()).digest()


@lru_cache(maxsize=1000)
def key_of(party: str) -> SigningKey:
    """A party's transport key."""
    return SigningKey(digest("transport", party))


def public_of(party: str) -> bytes:
    """The public half of it."""
    return bytes(key_of(party).verify_key)


def secret_of(one: str, other: str) -> bytes:
    """What two parties share."""
    channel = digest("channel", *sorted((one, other)))
    return channel_secret(key_of(one), public_of(other), channel)


@lru_cache(maxsize=10_000)
def veil_of(publisher: str, peer: str, about: About = "provider", epoch: int | None = None) -> Veil:
    """The veil of a publisher's items in the channel with a peer."""
    secret = secret_of(publisher, peer)
    at = epoch_at(secret, NOW) if epoch is None else epoch
    return Veil(secret, public_of(publisher), about, at)


def item_of(publisher: str, peer: str, size: int, history: str = "") -> Item:
    """An item of the publisher's log in the channel with a peer."""
    veil = veil_of(publisher, peer)
    root = digest("root", publisher, peer, size, history)
    return veil.make(key_of(publisher), size, root, bytes(64), bytes([1] * 72))


class Net:
    """Nodes with links, and a clock."""

    def __init__(self, links: Iterable[tuple[str, str]], limits: Limits | None = None) -> None:
        self.now = NOW
        self.links = {frozenset(link) for link in links}
        self.limits = limits
        self.nodes: dict[str, Gossip] = {}
        self.events: dict[str, list[Event]] = {}
        self.sent = 0
        for name in sorted({name for link in self.links for name in link}):
            self.start(name)

    def start(self, name: str, watched: Iterable[bytes] = ()) -> Gossip:
        """A node starts, or again with nothing in mind."""
        if name in self.nodes:
            self.stop(name)
        self.nodes[name] = Gossip(digest(name, len(self.events)), self.limits)
        self.events[name] = self.nodes[name].watch(watched)
        for other in self.around(name):
            if other in self.nodes:
                self.nodes[name].connected(other, self.now)
                self.nodes[other].connected(name, self.now)
        return self.nodes[name]

    def stop(self, name: str) -> None:
        """A node is away."""
        for other in self.around(name):
            if other in self.nodes:
                self.nodes[other].disconnected(name)
        del self.nodes[name]

    def around(self, name: str) -> list[str]:
        """A node's neighbours."""
        return sorted(other for link in self.links if name in link for other in link - {name})

    def publish(self, publisher: str, item: Item) -> None:
        """A node publishes."""
        self.events[publisher] += self.nodes[publisher].publish(item, self.now)

    def run(self, rounds: int = 1) -> None:
        """Let rounds pass."""
        for _ in range(rounds):
            self.now += ROUND_SECONDS
            for name, node in sorted(self.nodes.items()):
                for other, batch in node.round(self.now).items():
                    self.sent += len(batch.items) + len(batch.conflicts)
                    self.events[other] += self.nodes[other].receive(
                        name, batch.items, batch.conflicts, self.now
                    )
