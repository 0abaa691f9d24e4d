"""Whose heads are behind which pseudonyms: those of our channels, for us and for our peers.

Each party of a channel publishes its own log, so there are two pseudonyms a channel and week. To
make one takes a fraction of a millisecond, so thousands of channels are learnt little by little.
What makes and reads items of it is made anew when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tallystick.node.books import Books
from tallystick.protocol.blinding import Veil, channel_secret, epoch_at, epochs_near
from tallystick.protocol.errors import InputError

VEILS_MAX = 4096  # that are at hand


@dataclass(frozen=True, slots=True)
class Behind:
    """What a pseudonym hides: whose log of which channel, in which week."""

    channel: bytes
    ours: bool
    epoch: int


class Pseudonyms:
    """The pseudonyms of one node's channels."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._behind: dict[bytes, Behind] = {}
        self._epochs: dict[bytes, tuple[int, ...]] = {}  # that are known, by channel
        self._secrets: dict[bytes, bytes] = {}
        self._veil = lru_cache(VEILS_MAX)(self._make_veil)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._behind)

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

    def learn(self, channel: bytes) -> bool:
        """Know a channel's pseudonyms of now; whether other ones were known."""
        secret = self._secret(channel)
        epochs = epochs_near(secret, self._now_s()) if secret else ()
        before = self._epochs.get(channel, ())
        if epochs == before:
            return False
        self._epochs[channel] = epochs
        for epoch in {*epochs, *before}:
            for behind in (Behind(channel, True, epoch), Behind(channel, False, epoch)):
                if epoch not in before:
                    self._behind[self._make_veil(behind).pseudonym] = behind
                elif epoch not in epochs:
                    del self._behind[self._make_veil(behind).pseudonym]
        return True

    def _now_s(self) -> float:
        return self._books.clock_us() / 1e6

    def _secret(self, channel: bytes) -> bytes:
        """What the two parties share; empty if they never shared keys that it could be made of."""
        if channel not in self._secrets:
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
            self._secrets[channel] = secret
        return self._secrets[channel]

    def _make_veil(self, behind: Behind) -> Veil:
        channel = self._books.channels[behind.channel][0]
        if behind.ours:
            who, role = self._books.identity.transport_key, channel.own.role
        else:
            peer = self._books.peers[channel.peer_keys.name]
            who, role = peer.transport_key, channel.peer.role
        return Veil(self._secret(behind.channel), who, role, behind.epoch)
