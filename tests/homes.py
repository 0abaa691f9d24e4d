"""Two parties' homes on disk with a busy channel in them, made in this process, for any test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import builders
import trio

from tallystick.node.attending import Attendant, Follower
from tallystick.node.books import Books, put_peer
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.config import Config
from tallystick.node.founding import first_head
from tallystick.node.home import Home, create_home
from tallystick.node.importing.drafts import Draft
from tallystick.node.rotating import Rotator
from tallystick.node.store.disk import Store
from tallystick.node.transport import tls
from tallystick.node.upkeep import flush
from tallystick.protocol.heads import sign_head
from tallystick.protocol.keys import Identity
from tallystick.protocol.messages import Append, Message
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.records import Correction
from tallystick.protocol.terms import channel_id

NOW_US = builders.DECEMBER_US + 40 * builders.DAY_US
NAMES = ("acme.example", "beta.example")


class Side:
    """One party's books while they are open."""

    def __init__(self, folder: Path, name: str) -> None:
        identity = builders.identity(name)
        self.home = create_home(folder / name, name, name.encode().ljust(32, b"\0"))
        (self.home.path / "ids").mkdir()
        store = Store(self.home.store_path)
        self.now_us = NOW_US
        self.books = Books(Config(), identity, store, self.home.path / "ids", lambda: self.now_us)
        self.channel: Channel
        self.closer: Closer

    async def found(self, other: str) -> None:
        """Found the channel of both, as pairing, proposing and accepting would."""
        peer = peer_of(builders.identity(other))
        await self.books.store.commit(lambda txn: put_peer(txn, peer))
        terms = builders.make_terms(*(builders.identity(name) for name in NAMES))
        founding = self.books.founding
        key = await founding.propose(terms, peer)
        signer = builders.identity(other)
        await founding.open(key, sign_head(first_head(other, terms), signer.log))
        self.channel, self.closer = self.books.load_channel(channel_id(terms))
        self.channel.live = True

    async def correct(self, id_: str, meter: str, quantity: int | None) -> None:
        """Correct a delta of this side's."""
        record = Correction(id_, meter, quantity, "wrong", self.channel.now_recorded_at())
        await self.channel.append_own(record)


def attend(side: Side, *followers: Follower) -> None:
    """Have followers of matters called for in a side's channel, as a running node does."""
    keys = Rotator(side.books)
    Attendant(side.books.errands, keys, followers, lambda _: None).attend(
        side.channel, concerned=True
    )


def peer_of(identity: Identity) -> PeerIdentity:
    """A party as its peers know it."""
    certificate = tls.certificate_der(identity.name, identity.transport)
    key = bytes(identity.transport.verify_key)
    fields = (identity.name, identity.log_key, identity.cosigner_key, key, certificate, "x:1")
    return PeerIdentity(*fields)


async def exchange(a: Side, b: Side) -> None:
    """Bring each side's copy of the other's log up to date."""
    for author, reader in ((a, b), (b, a)):
        own, peer = author.channel.own, reader.channel.peer
        while own.durable_size > peer.state.size:
            stop = author.closer.next_head(own, peer.state.size)
            batch = await author.channel.signed_batch(peer.state.size, stop)
            message = Append(author.channel.id, batch.first, batch.data, batch.signature)
            await reader.channel.receive(message, author.channel.take_cosignature).wait()
            await author.books.store.commit(lambda txn: None)


async def close(a: Side, b: Side, label: str) -> None:
    """Close a period through the two closers, their messages handed over directly."""
    await exchange(a, b)
    async with trio.open_nursery() as nursery:
        to_a, to_b = trio.open_memory_channel[Message](9), trio.open_memory_channel[Message](9)

        async def serve(
            side: Side, incoming: trio.MemoryReceiveChannel[Message], out: object
        ) -> None:
            async for message in incoming:
                await side.closer.handle(message, out.send_nowait)  # type: ignore[attr-defined]

        nursery.start_soon(serve, a, to_a[1], to_b[0])
        nursery.start_soon(serve, b, to_b[1], to_a[0])
        row = await a.closer.close(label, force=True, send=to_b[0].send_nowait)
        for log in (a.channel.own, b.channel.own):
            while log.state.facts.checkpoint != row.digest or log.durable_size < log.state.size:
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    await exchange(a, b)


@asynccontextmanager
async def alone(folder: Path, *, with_terms: bool = True) -> AsyncIterator[Side]:
    """Acme's books with an open channel, and its store running."""
    side = Side(folder, NAMES[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(side.books.store.run)
        await side.found(NAMES[1])
        if with_terms:
            await side.channel.found().wait()
        yield side
        nursery.cancel_scope.cancel()
    side.books.close()


@asynccontextmanager
async def founded(folder: Path) -> AsyncIterator[tuple[Side, Side]]:
    """Both parties' books with an open channel, running, their terms co-signed."""
    sides = (Side(folder, NAMES[0]), Side(folder, NAMES[1]))
    async with trio.open_nursery() as nursery:
        for side, other in zip(sides, reversed(NAMES), strict=True):
            nursery.start_soon(side.books.store.run)
            await side.found(other)
            side.books.errands.start(nursery)
            await side.channel.found().wait()
        await exchange(*sides)
        yield sides
        nursery.cancel_scope.cancel()
    for side in sides:
        side.books.close()


async def _busy(folder: Path) -> tuple[Home, Home]:
    async with founded(folder) as (a, b):
        for day in range(40):
            at = builders.OCTOBER_US + day * builders.DAY_US
            for side in (a, b):
                drafts = [
                    Draft(f"t{day}-{n}", ("tokens", "calls", "peak")[n % 3], f"s{n % 5}", n, at + n)
                    for n in range(1, 25)
                ]
                await side.channel.emit(drafts)
            if day % 9 == 0:
                await exchange(a, b)
        await a.channel.emit([Draft("gone", "tokens", "nobody", 9, builders.OCTOBER_US)])
        await a.correct("gone", "tokens", None)
        await a.correct("t3-3", "tokens", 70)
        await a.correct("t4-2", "peak", None)
        await b.correct("t5-1", "calls", None)
        await close(a, b, "2026-10")
        await a.correct("t6-3", "tokens", 7)
        await a.channel.emit([Draft("late", "tokens", "s1", 9, builders.OCTOBER_US + 5)])
        await close(a, b, "2026-11")
        for side in (a, b):
            await flush([side.channel.own, side.channel.peer])
        await a.channel.emit(
            [Draft(f"d{n}", "tokens", "x" * 100, n, builders.DECEMBER_US) for n in range(300)]
        )
        await exchange(a, b)
        a.channel.live = False
        await a.channel.emit([Draft("tail", "tokens", "s1", 4, builders.DECEMBER_US)])
    return a.home, b.home


async def _small(folder: Path) -> tuple[Home, Home]:
    async with founded(folder) as (a, b):
        drafts = [
            Draft(f"t{n}", ("tokens", "calls", "peak")[n % 3], "s", n, builders.OCTOBER_US + n)
            for n in range(1, 5)
        ]
        for side in (a, b):
            await side.channel.emit(drafts)
        await a.correct("t3", "tokens", 7)
        await close(a, b, "2026-10")
        for side in (a, b):
            await flush([side.channel.own, side.channel.peer])
    return a.home, b.home


def small_homes(folder: Path) -> tuple[Home, Home]:
    """The homes of both, with a few deltas, a correction and one closed month."""
    return trio.run(_small, folder)


def busy_homes(folder: Path) -> tuple[Home, Home]:
    """The homes of both: two closed months, corrections, an open one, and an unsigned tail."""
    return trio.run(_busy, folder)
