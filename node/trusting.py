"""Whom a listening node trusts, kept up to date by what changed: with ten thousand peers nobody
wants to look at all of them whenever one connects.

What a peer may show follows from its record and from rotations in the logs with it (`pins`); where
nobody ever changed a key, it is the paired one. So only those are looked at anew whose record
changed, and those with rotations, which also come to their end by time.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from tallystick.node.books import Books
from tallystick.node.pins import Pin, Pins
from tallystick.node.transport.trusted import TrustedFolder
from tallystick.protocol.pairing import PeerIdentity

USES = 512  # of a context, which keeps what it read of the folder, before it is made anew


class Trust:
    """The keys that peers may show, and the contexts for listening that trust their certificates,
    by the number of the transport key of ours that they show. `make` makes one.
    """

    def __init__(
        self,
        books: Books,
        pins: Pins,
        folder: TrustedFolder,
        make: Callable[[int], ssl.SSLContext],
    ) -> None:
        self._books, self._pins, self._folder, self._make = books, pins, folder, make
        self._names: dict[bytes, str] = {}  # whose keys they are
        self._known: dict[str, tuple[Pin, ...]] = {}
        self._contexts: dict[int, ssl.SSLContext] = {}
        self._uses = 0

    def begin(self) -> None:
        """Take up whom the books name now."""
        changed = self._changed()
        for name, now in changed.items():
            self._put(name, now)
        self._folder.begin(pin.certificate for pins in changed.values() for pin in pins)

    def peer_of(self, key: bytes) -> PeerIdentity | None:
        """The peer that may show this key."""
        self._follow()
        name = self._names.get(key)
        return None if name is None else self._books.peers[name]

    def context(self, number: int) -> ssl.SSLContext:
        """The context that shows this transport key of ours."""
        self._follow()
        self._uses += 1
        if not self._uses % USES:
            self._contexts.clear()
        if number not in self._contexts:
            self._contexts[number] = self._make(number)
        return self._contexts[number]

    def _changed(self) -> dict[str, tuple[Pin, ...]]:
        """The pins of peers where they may be others than before."""
        peers = self._books.peers
        names = peers.changed | self._books.turning
        peers.changed.clear()
        return {
            name: tuple(self._pins.accepted(peers[name])) if name in peers else () for name in names
        }

    def _follow(self) -> None:
        """Take up what changed since this was called last."""
        for name, now in self._changed().items():
            before = self._known.get(name, ())
            if now == before:
                continue
            self._put(name, now)
            for pin in now:
                self._folder.add(pin.certificate)
            for pin in before:
                if pin not in now:
                    self._folder.remove(pin.certificate)
                    self._contexts.clear()  # one that has read it trusts it

    def _put(self, name: str, pins: tuple[Pin, ...]) -> None:
        for pin in self._known.get(name, ()):
            self._names.pop(pin.key, None)
        self._names |= {pin.key: name for pin in pins}
        self._known[name] = pins
