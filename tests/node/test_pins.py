"""Pins: which transport keys count, from what two nodes' books say and nothing else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import builders
import trio

from tallystick.node.books import Books
from tallystick.node.config import Config
from tallystick.node.founding import first_head
from tallystick.node.pairing import own_identity
from tallystick.node.pins import Pins
from tallystick.node.rotating import Rotator
from tallystick.node.store.disk import Store
from tallystick.node.transport.tls import certificate_der
from tallystick.node.transport.trusted import TrustedFolder
from tallystick.node.trusting import Trust
from tallystick.protocol.heads import sign_head
from tallystick.protocol.keys import Identity
from tallystick.protocol.messages import Append
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import Rotation

ACME, BETA = builders.identity("acme.example"), builders.identity("beta.example")
TERMS = builders.make_terms(ACME, BETA)
NOW_US = builders.DECEMBER_US


class World:
    """Two parties' books, and a clock for both."""

    def __init__(self, folder: Path) -> None:
        self.now_us = NOW_US
        self.acme, self.beta = (self._books(folder / who.name, who) for who in (ACME, BETA))

    def _books(self, folder: Path, who: Identity) -> Books:
        (folder / "ids").mkdir(parents=True)
        store = Store(folder / "store")
        return Books(Config(), who, store, folder / "ids", lambda: self.now_us)

    async def found(self) -> None:
        """Pair both and open a channel."""
        for books, peer in ((self.acme, BETA), (self.beta, ACME)):
            found = as_peer(peer)
            books.peers[peer.name] = found
            head = first_head(peer.name, TERMS)
            key = await books.founding.offer(TERMS, found, sign_head(head, peer.log))
            await books.founding.open(key)
            channel, _ = books.load_channel(key)
            channel.go_live()
            await channel.found().wait()
        await self.exchange(self.acme, self.beta)
        await self.exchange(self.beta, self.acme)

    async def exchange(self, author: Books, reader: Books) -> None:
        """Bring the reader's copy of the author's log up to date; the author hears of it."""
        (own, _), (other, _) = *author.channels.values(), *reader.channels.values()
        while own.own.durable_size > other.peer.state.size:
            batch = await own.signed_batch(other.peer.state.size, own.own.durable_size)
            message = Append(own.id, batch.first, batch.data, batch.signature)
            await other.receive(message, own.take_cosignature).wait()
        await author.store.commit(lambda txn: None)

    async def repeat(self, reader: Books) -> None:
        """What `Rotator.follow` does once."""
        ((channel, _),) = reader.channels.values()
        await Rotator(reader).follow(channel)

    def accepted(self) -> list[bytes]:
        """acme's keys that beta takes."""
        return [pin.key for pin in Pins(self.beta).accepted(self.beta.peers[ACME.name])]

    def shown(self) -> bytes:
        """acme's key that it shows to beta."""
        return bytes(Pins(self.acme).own_key(self.acme.peers[BETA.name]).verify_key)


def as_peer(who: Identity) -> PeerIdentity:
    """What pairing tells of a party."""
    return own_identity(who, certificate_der(who.name, who.transport), "192.0.2.1:7450")


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Two parties with a channel."""
    made = World(folder)
    async with trio.open_nursery() as nursery:
        for books in (made.acme, made.beta):
            nursery.start_soon(books.store.run)
        await made.found()
        yield made
        nursery.cancel_scope.cancel()
    for books in (made.acme, made.beta):
        books.close()


async def test_the_old_key_is_taken_until_its_time_is_over_and_both_know(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        acme, beta = both.acme, both.beta
        old = ACME.transport_key
        (done,) = await Rotator(acme).rotate("transport", builders.HOUR_US)
        assert (both.shown(), both.accepted()) == (old, [old])  # beta has not heard of it
        await both.exchange(acme, beta)
        both.now_us += 2 * builders.HOUR_US
        assert (both.shown(), both.accepted()) == (old, [old, done.key])
        await both.repeat(beta)
        assert (both.shown(), both.accepted()) == (old, [old, done.key])  # acme has not heard
        await both.exchange(beta, acme)
        assert (both.shown(), both.accepted()) == (done.key, [done.key])
        assert Pins(beta).newest(beta.peers[ACME.name]).key == done.key
        folder = TrustedFolder(tmp_path / "trusted")
        trust = Trust(beta, Pins(beta), folder, lambda number: ssl.SSLContext())
        trust.begin()
        assert trust.peer_of(old) is None
        found = trust.peer_of(done.key)
        assert found is not None and found.name == ACME.name
        both.now_us -= builders.HOUR_US + 1  # as if the overlap lasted
        assert both.accepted() == [old, done.key]


async def test_who_pairs_anew_with_the_seed_alone_is_let_in(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await Rotator(both.acme).rotate("transport", 0)
        await both.exchange(both.acme, both.beta)
        await both.repeat(both.beta)
        await both.exchange(both.beta, both.acme)
        both.now_us += 1
        assert ACME.transport_key not in both.accepted()
        both.beta.paired_anew.add(ACME.name)
        assert ACME.transport_key in both.accepted()


async def test_a_certificate_that_is_none_pins_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        ((channel, _),) = both.acme.channels.values()
        record = builders.next_rotation(
            channel.own.keyring, ACME, channel.role, "transport", both.now_us
        )
        await channel.append_own(record)  # its certificate is no certificate
        await both.exchange(both.acme, both.beta)
        assert both.accepted() == [ACME.transport_key]
        assert Pins(both.beta).newest(both.beta.peers[ACME.name]).key == ACME.transport_key


async def test_new_keys_of_a_peer_leave_the_old_ones_behind(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await Rotator(both.acme).rotate("transport", builders.HOUR_US)
        await both.exchange(both.acme, both.beta)
        fresh = as_peer(Identity.from_seed(ACME.name, b"f" * 32))
        both.beta.peers[ACME.name] = fresh
        await both.beta.founding.replace_keys(fresh, lambda txn: None)
        assert both.accepted() == [fresh.transport_key]
        (row,) = both.beta.founding.rows.values()
        assert row.state == "halted" and "new keys" in row.reason


async def test_channels_follow_what_is_wanted_and_a_crash_in_between_is_made_up(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as both:
        rotator = Rotator(both.acme)
        ((channel, _),) = both.acme.channels.values()
        await rotator.rotate_one(channel, "log", 0)
        both.now_us += 1
        await rotator.rotate("log", 0)  # the channel has number 1 already, so it is 2 everywhere
        assert channel.own.keyring.keys("provider", "log")[-1].key == bytes(
            ACME.signer("log", 2).verify_key
        )
        again = Rotator(both.acme)  # as after a crash
        await again._catch_up(channel)
        assert channel.own.keyring.number("provider", "log") == 2
        assert [type(channel.own.record(n)) for n in (1, 2)] == [Rotation, Rotation]
