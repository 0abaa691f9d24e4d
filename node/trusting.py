"""Whom a listening node trusts, kept up to date by what changed: with ten thousand peers nobody
wants to look at all of them whenever one connects.

What a peer may show follows from its record and from rotations in the logs with it (`pins`); where
nobody ever changed a key, it is the paired one. So only those are looked at anew whose record
changed, and those with rotations, which also come to their end by time.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable

from tallystick.node.books import Books
from tallystick.node.pins import Pins
from tallystick.protocol.pairing import PeerIdentity


class Trust:
    """The keys that peers may show, and the contexts for listening that trust their certificates,
    by the number of the transport key of ours that they show. `make` makes one.
    """

    def __init__(
        self, books: Books, pins: Pins, make: Callable[[int, Iterable[bytes]], ssl.SSLContext]
    ) -> None:
        self._books, self._pins, self._make = books, pins, make
        self._keys: dict[bytes, str] = {}  # whose they are
        self._certificates: dict[str, frozenset[bytes]] = {}
        self._contexts: dict[int, ssl.SSLContext] = {}

    def peer_of(self, key: bytes) -> PeerIdentity | None:
        """The peer that may show this key."""
        self._follow()
        name = self._keys.get(key)
        return None if name is None else self._books.peers[name]

    def context(self, number: int) -> ssl.SSLContext:
        """The context that shows this transport key of ours."""
        self._follow()
        if number not in self._contexts:
            trusted = (one for known in self._certificates.values() for one in known)
            self._contexts[number] = self._make(number, trusted)
        return self._contexts[number]

    def _follow(self) -> None:
        """Take up what changed since this was called last."""
        peers = self._books.peers
        names = peers.changed | self._books.turning
        peers.changed.clear()
        fresh: set[bytes] = set()
        for name in names:
            peer = peers.get(name)
            pins = self._pins.accepted(peer) if peer is not None else []
            before = self._certificates.get(name, frozenset())
            now = frozenset(pin.certificate for pin in pins)
            if before == now and now:
                continue
            for key in [key for key in self._keys if self._keys[key] == name] if before else ():
                del self._keys[key]
            self._keys |= {pin.key: name for pin in pins}
            self._certificates[name] = now
            fresh |= now - before
            if before - now:
                self._contexts.clear()  # nothing can be taken out of one
        for context in self._contexts.values() if fresh else ():
            context.load_verify_locations(cadata=b"".join(fresh))
