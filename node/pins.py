"""Which transport keys count between this node and a peer, while keys change and afterwards.

Everything follows from the logs of the channels with the peer: what either announced, and what the
other repeated. We show a peer the newest key of ours that it has repeated, so it always knows what
it is shown. We take from a peer its newest key; and an older one until its time is over *and* the
peer has co-signed our repetition, for then its node has that too and shows the new one. So neither
a long absence nor any order of restarts parts two nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nacl.signing import SigningKey

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.rotating import durable_rotations
from tallystick.node.transport.tls import certificate_key
from tallystick.protocol.errors import FormatError
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import Announced, Rotation


@dataclass(frozen=True, slots=True)
class Pin:
    """A transport key and its certificate (DER)."""

    key: bytes
    certificate: bytes


class Pins:
    """The pins of one node's peers."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def own_key(self, peer: PeerIdentity) -> SigningKey:
        """The transport key that we show to a peer."""
        identity = self._books.identity
        number = 0
        for channel in self._channels(peer):
            for one in durable_rotations(channel.peer):
                if (one.party, one.job) == (channel.role, "transport"):
                    number = max(number, identity.number_of("transport", one.key))
        return identity.signer("transport", number)

    def newest(self, peer: PeerIdentity) -> Pin:
        """The key that a peer shows to who asks for its newest."""
        chains = [
            [pin for pin in self._chain(peer, channel) if pin.certificate]
            for channel in self._channels(peer)
        ]
        before = {pin.key for chain in chains for pin in chain[:-1]}
        last = [chain[-1] for chain in chains if chain[-1].key not in before]
        return last[0] if last else _paired(peer)

    def accepted(self, peer: PeerIdentity) -> list[Pin]:
        """The keys that a peer may show."""
        pins = {_paired(peer).key: _paired(peer)}
        ended: set[bytes] = set()
        for channel in self._channels(peer):
            chain = self._chain(peer, channel)
            pins |= {pin.key: pin for pin in chain}
            followers = list(_announced(channel))
            for pin, follower in zip(chain, followers, strict=False):
                if self._is_over(channel, follower):
                    ended.add(pin.key)
        if peer.name in self._books.paired_anew:
            # It may have come back with nothing but its seed, and know of no later key.
            ended.discard(_paired(peer).key)
        return [pin for pin in pins.values() if pin.certificate and pin.key not in ended]

    def _channels(self, peer: PeerIdentity) -> Iterator[Channel]:
        """The channels with a peer that are between the keys that pairing exchanged."""
        for key, _ in self._books.founding.of_peer(peer.name):
            opened = self._books.channels.get(key)
            if opened is not None and opened[0].peer_keys.log_key == peer.log_key:
                yield opened[0]

    def _chain(self, peer: PeerIdentity, channel: Channel) -> list[Pin]:
        """The peer's transport keys by a channel, the paired one first."""
        chain = [_paired(peer)]
        for one in _announced(channel):
            record = channel.peer.record(one.index)
            assert isinstance(record, Rotation)
            chain.append(Pin(one.key, _certificate(record)))
        return chain

    def _is_over(self, channel: Channel, follower: Announced) -> bool:
        """Whether the key before this one has come to its end."""
        repeated = (
            one.index
            for one in channel.own.keyring.announced
            if (one.party, one.job, one.number) == (follower.party, follower.job, follower.number)
        )
        index = next(repeated, None)
        confirmed = index is not None and index < channel.own.cosigned_size
        return confirmed and self._books.clock_us() > follower.old_until


def _paired(peer: PeerIdentity) -> Pin:
    return Pin(peer.transport_key, peer.transport_certificate)


def _announced(channel: Channel) -> Iterator[Announced]:
    """The peer's rotations of its transport key that are durable here, in order."""
    for one in durable_rotations(channel.peer):
        if (one.party, one.job) == (channel.peer.role, "transport"):
            yield one


def _certificate(record: Rotation) -> bytes:
    """The certificate of a rotation; empty, so that it matches nothing, if it is not the key's.

    Whether it is one is no question of the record's validity: that does not depend on X.509.
    """
    try:
        good = certificate_key(record.proof) == record.key
    except FormatError:
        good = False
    return record.proof if good else b""
