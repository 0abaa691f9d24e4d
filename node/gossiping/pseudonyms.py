"""Whose heads are behind which pseudonyms: those of our channels, for us and for our peers.

Each party of a channel publishes its own log, so there are two pseudonyms a channel and week. To
make one takes a fraction of a millisecond, so thousands of channels are learnt little by little.
What makes and reads items of it is made anew when it is needed.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from tallystick.node.books import Books
from tallystick.protocol.blinding import Veil, channel_secret, epoch_at, epochs_near
from tallystick.protocol.errors import InputError

VEILS_MAX = 4096  # that are at hand


class Behind(Struct, frozen=True, gc=False):
    """What a pseudonym hides: whose log of which channel, in which week."""

    channel: bytes
    ours: bool
    epoch: int


class Pseudonyms:
    """The pseudonyms of one node's channels."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._behind: dict[bytes, Behind] = {}
        # By channel: its secret, and from which epoch up to which its pseudonyms are known.
        self._known: dict[bytes, tuple[bytes, int, int]] = {}
        self._veil = lru_cache(VEILS_MAX)(self._make_veil)

    def behind(self, pseudonym: bytes) -> Behind | None:
        """What a pseudonym hides, if it is of our channels."""
        return self._behind.get(pseudonym)

    def veil(self, behind: Behind) -> Veil:
        """What makes and reads its items."""
        return self._veil(behind)

    def publishing(self, channel: bytes) -> Behind | None:
        """Under what we publish our log now; None if its channel shares no secret."""
        secret = self._secret(channel)
        return Behind(channel, True, epoch_at(secret, self._now_s())) if secret else None

    def learn(self, channel: bytes) -> tuple[list[bytes], list[bytes]]:
        """Know a channel's pseudonyms of now: those not known before, and those that are past."""
        secret = self._secret(channel)
        now = epochs_near(secret, self._now_s()) if secret else range(0)
        _, first, after = self._known[channel]
        before = range(first, after)
        if now == before:
            return [], []
        self._known[channel] = secret, now.start, now.stop
        fresh = [
            self._note(Behind(channel, ours, epoch))
            for epoch in now
            for ours in (True, False)
            if epoch not in before
        ]
        past = [
            self._make_veil(Behind(channel, ours, epoch)).pseudonym
            for epoch in before
            for ours in (True, False)
            if epoch not in now
        ]
        for pseudonym in past:
            del self._behind[pseudonym]
        return fresh, past

    def _note(self, behind: Behind) -> bytes:
        pseudonym = self._make_veil(behind).pseudonym
        self._behind[pseudonym] = behind
        return pseudonym

    def _now_s(self) -> float:
        return self._books.clock_us() / 1e6

    def _secret(self, channel: bytes) -> bytes:
        """What the two parties share; empty if they never shared keys that it could be made of."""
        known = self._known.get(channel)
        if known is not None:
            return known[0]
        found = self._books.channels[channel][0]
        peer = self._books.peers.get(found.peer_keys.name)
        secret = b""
        if peer is not None and peer.log_key == found.peer_keys.log_key:
            try:
                own = self._books.identity.transport
                secret = channel_secret(own, peer.transport_key, channel)
                # Whether the peer's key can be blinded shows here, and never later.
                Veil(secret, peer.transport_key, "provider", 0)
            except InputError:
                secret = b""
        self._known[channel] = secret, 0, 0
        return secret

    def _make_veil(self, behind: Behind) -> Veil:
        channel = self._books.channels[behind.channel][0]
        if behind.ours:
            who, role = self._books.identity.transport_key, channel.own.role
        else:
            peer = self._books.peers[channel.peer_keys.name]
            who, role = peer.transport_key, channel.peer.role
        return Veil(self._secret(behind.channel), who, role, behind.epoch)
