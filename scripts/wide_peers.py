"""Consumers of a wide home: real sessions over TLS, with logs in memory instead of a node's disk.

Each speaks through the protocol's own session, checks the provider's signature on every head and
co-signs what it has appended, as a node does; what it lacks is a store, billing and people. They
have a process of their own: `python wide_peers.py HOST:PORT FIRST COUNT FOLDER [gossip]` prints a
line of JSON when all sessions are live, and ends when its standard input does. With `gossip` each
runs the nodes' engine and publishes its head and, every minute, its presence; a line on standard
input has all publish their presence at once.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from functools import partial
from pathlib import Path

import trio
import wide

from tallystick.node.errors import PeerUnreachable
from tallystick.node.founding import first_head
from tallystick.node.gossiping.talker import PRESENCE_SECONDS
from tallystick.node.link import PING_SECONDS
from tallystick.node.transport import tls
from tallystick.protocol.blinding import Veil, channel_secret, epoch_at, presence_secret
from tallystick.protocol.errors import TallyError
from tallystick.protocol.gossip import Gossip
from tallystick.protocol.gossip_words import ROUND_SECONDS
from tallystick.protocol.heads import Head, cosign_head, sign_head, verify_head_signature
from tallystick.protocol.keys import Identity, origin
from tallystick.protocol.log import LogState, append
from tallystick.protocol.messages import (
    PROTOCOL_VERSION,
    Append,
    Channels,
    Cosign,
    Hearsay,
    Hello,
    Holding,
    Message,
    Ping,
    Presence,
)
from tallystick.protocol.records import decode_batch, encode_record
from tallystick.protocol.session import Session
from tallystick.protocol.terms import channel_id

DIALS_AT_ONCE = 16
SECONDS = 60
DIALS = 10  # that a consumer makes before it gives up
INCARNATION = bytes(16)


class Talk:
    """What one consumer has to say in gossip. It believes the provider that items are signed, so
    that the processor is left to the provider's node.
    """

    def __init__(self, who: Identity, provider: Identity, channel: bytes) -> None:
        self._who = who
        self.engine = Gossip(secrets.token_bytes(32), verify=lambda item: None)
        now = time.time()
        secret = channel_secret(who.transport, provider.transport_key, channel)
        self._head = Veil(secret, who.transport_key, "consumer", epoch_at(secret, now))
        own = presence_secret(bytes(who.transport))
        self._presence = Veil(own, who.transport_key, "presence", epoch_at(own, now))
        self._heard = False
        self.due = 0.0  # when it says again that it is there

    def begin(self, provider: str, held: Holding) -> None:
        """The session is live, and the provider said what it co-signed of our log."""
        now = time.time()
        self.engine.connected(provider, now)
        if not self._heard:
            self._heard = True
            head = (held.size, held.root, held.signature, held.cosignature)
            self.engine.publish(self._head.make(self._who.transport, *head), now)

    def say(self) -> None:
        """Publish that we are there."""
        now = time.time()
        self.due = now + PRESENCE_SECONDS
        at_ms = int(now * 1000)
        item = self._presence.make_presence(self._who.transport, at_ms, INCARNATION, 0)
        self.engine.publish(item, now)

    def batch(self, provider: str) -> Hearsay | None:
        """What goes to the provider now."""
        now = time.time()
        if self.due <= now:
            self.say()
        found = self.engine.round(now).get(provider) if self.engine.due() <= now else None
        return None if found is None else Hearsay(found.items, found.conflicts)


class Consumer:
    """One consumer, its channel with the provider, and its connection."""

    def __init__(self, number: int, provider: Identity, *, gossips: bool) -> None:
        self.identity = wide.consumer(number)
        self.provider = provider
        terms = wide.terms_of(number, provider, self.identity)
        self.channel = channel_id(terms)
        begun = LogState.empty(self.channel)
        self.theirs = append(begun, [encode_record(terms)], begun.facts).state
        head = first_head(provider.name, terms)
        cosignature = cosign_head(head, self.identity.cosigner, wide.FOUNDED_S)
        self.held = (head.root, sign_head(head, provider.log), cosignature)
        self.talk = Talk(self.identity, provider, self.channel) if gossips else None
        self.live = trio.Event()
        self.saying = trio.Lock()  # answers, and pings beside them
        self.stream: tls.PeerStream | None = None

    async def connect(self, address: str, folder: Path) -> None:
        """Dial the provider's node."""
        certificates = [
            tls.certificate_der(who.name, who.transport) for who in (self.identity, self.provider)
        ]
        context = tls.session_context(self.identity, *certificates, folder)
        self.stream = await tls.dial(address, context, self.provider.transport_key, SECONDS)
        self.session = Session(self.identity.name, self.provider.name)
        await self._say(Hello(PROTOCOL_VERSION, self.identity.name, int(time.time()), ""))
        await self._say(Presence(secrets.token_bytes(16), 0, False, None))

    async def _say(self, message: Message) -> None:
        assert self.stream is not None
        async with self.saying:
            await self.stream.send(self.session.send(message))

    async def ping(self) -> None:
        """Show that we are there."""
        await self._say(Ping())

    async def gossip(self) -> None:
        """Say what there is to say in gossip."""
        said = self.talk and self.talk.batch(self.provider.name)
        if said:
            await self._say(said)

    async def serve(self) -> None:
        """Answer until the provider hangs up."""
        assert self.stream is not None
        while data := await self.stream.receive():
            self.session.feed(data)
            while (message := self.session.next_message()) is not None:
                await self._handle(message)

    async def _handle(self, message: Message) -> None:
        match message:
            case Presence():
                await self._say(Channels([self.channel]))
            case Channels():
                size = self.theirs.size
                self.session.add_channel(self.channel, 1, size)
                await self._say(Holding(self.channel, 0, 1, size, *self.held))
            case Holding():
                if self.talk is not None:
                    self.talk.begin(self.provider.name, message)
                self.live.set()
            case Hearsay() if self.talk is not None:
                name = self.provider.name
                self.talk.engine.receive(name, message.items, message.conflicts, time.time())
            case Append():
                await self._cosign(message)
            case _:
                pass

    async def _cosign(self, message: Append) -> None:
        _, parts = decode_batch(message.batch)
        after = append(self.theirs, parts, self.theirs.facts).state
        head = Head(origin(self.provider.name, self.channel), after.size, after.frontier.root())
        verify_head_signature(head, self.provider.log_key, message.signature)
        cosignature = cosign_head(head, self.identity.cosigner, int(time.time()))
        self.theirs, self.held = after, (head.root, message.signature, cosignature)
        await self._say(Cosign(self.channel, after.size, cosignature))


async def run(address: str, first: int, count: int, folder: Path, *, gossips: bool) -> None:
    """Keep so many sessions with the node at an address."""
    provider = wide.provider()
    numbers = range(first, first + count)
    consumers = [Consumer(number, provider, gossips=gossips) for number in numbers]
    limit = trio.CapacityLimiter(DIALS_AT_ONCE)
    began = time.perf_counter()

    async def one(consumer: Consumer) -> None:
        async with limit:
            for tries_left in reversed(range(DIALS)):
                try:
                    await consumer.connect(address, folder)
                    break
                except PeerUnreachable:  # on a busy machine a handshake may take too long
                    if not tries_left:
                        raise
        await consumer.serve()
        raise TallyError(f"{consumer.identity.name}: the provider hung up")

    async with trio.open_nursery() as nursery:
        for consumer in consumers:
            nursery.start_soon(one, consumer)
        nursery.start_soon(_ping, consumers)
        if gossips:
            nursery.start_soon(_gossip, consumers)
        for consumer in consumers:
            await consumer.live.wait()
        said = {"live": count, "seconds": round(time.perf_counter() - began, 2)}
        print(json.dumps(said), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            for consumer in consumers:
                if consumer.talk is not None:
                    consumer.talk.say()
            print("said", flush=True)
        nursery.cancel_scope.cancel()


async def _gossip(consumers: list[Consumer]) -> None:
    while True:
        await trio.sleep(ROUND_SECONDS)
        for consumer in consumers:
            if consumer.live.is_set():
                await consumer.gossip()


async def _ping(consumers: list[Consumer]) -> None:
    while True:
        await trio.sleep(PING_SECONDS)
        for consumer in consumers:
            if consumer.live.is_set():
                await consumer.ping()


if __name__ == "__main__":
    given, gossip = sys.argv[1:5], sys.argv[5:] == ["gossip"]
    trio.run(partial(run, given[0], int(given[1]), int(given[2]), Path(given[3]), gossips=gossip))
