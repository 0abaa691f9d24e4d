"""Links to the peers: at most one each, dialled again whenever it ends, and what is said on them
about whole channels: proposals, founding, which channels are open.

How a stream to a peer comes about, the clock and the dice are handed in, so the same code runs over
TLS and in a simulation.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import trio

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.declaring import Declarer
from tallystick.node.errors import StoreError
from tallystick.node.lapsing import Lapser
from tallystick.node.link import Link, Stream
from tallystick.node.quotas import Allowance
from tallystick.node.reconciling.sessions import Reconciler
from tallystick.node.rotating import Rotator
from tallystick.node.upkeep import RETRY_SECONDS, tend, tend_index
from tallystick.protocol.errors import PeerBreach, TallyError
from tallystick.protocol.messages import (
    PROTOCOL_VERSION,
    Channels,
    Founded,
    Hello,
    InReconciliation,
    ProposeTerms,
    TermsHeld,
    TermsRefused,
    plain,
)
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.terms import channel_id

DIAL_FIRST_SECONDS = 0.2
DIAL_MAX_SECONDS = 30.0
STEADY_SECONDS = 5.0

_log = logging.getLogger("tallystick.peering")

Dial = Callable[[PeerIdentity], Awaitable[Stream]]


class Peering:
    """The links of one node, and the tasks of its channels."""

    def __init__(self, books: Books, dial: Dial, dice: Random) -> None:
        self.books = books
        self.identity = books.identity
        self.rotator = Rotator(books)
        self.reconciler = Reconciler(books, books.index_folder.parent)
        self.lapser = Lapser(books, self.caught_up)
        self.declarer = Declarer(books, self.caught_up)
        self.links: dict[str, Link] = {}
        self.address = ""
        self.held: set[bytes] = set()  # proposals that the peer said it holds
        self.refused: dict[bytes, str] = {}  # those that it did not take, and why
        self.changed = trio.Event()  # set, and replaced, when a link, peer or channel changes
        self._dial = dial
        self._dice = dice
        self._dialling: set[str] = set()
        self.allowances: dict[str, Allowance] = {}
        self._arriving: set[str] = set()  # peers whose new connection replaces the old one
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Begin the tasks of the channels; dialling begins with `dial_all`."""
        self._nursery = nursery
        self.reconciler.start(nursery)
        self.books.store.on_failure.append(self._drop_links)
        for channel, closer in self.books.channels.values():
            self._start(channel, closer)

    def dial_all(self) -> None:
        """Keep dialling every peer."""
        assert self._nursery is not None
        for peer in self.books.peers.values():
            self._nursery.start_soon(self._keep_dialling, peer.name)

    def _start(self, channel: Channel, closer: Closer) -> None:
        assert self._nursery is not None
        if self.books.founding.rows[channel.id].state == "open":
            channel.keep_founded()
        self.books.store.on_failure += [channel.load, closer.load]
        self._nursery.start_soon(channel.run)
        self._nursery.start_soon(self.rotator.follow, channel)
        self._nursery.start_soon(self.lapser.follow, channel)
        self._nursery.start_soon(self.declarer.follow, channel, closer)
        for log in (channel.own, channel.peer):
            self._nursery.start_soon(tend, log)
            self._nursery.start_soon(tend_index, log)

    def caught_up(self, channel: Channel) -> bool:
        """Whether the peer is connected and all that it said it has of its log is here."""
        link = self.links.get(channel.peer_keys.name)
        held = link.holding(channel.id) if link is not None and link.live else None
        return held is not None and channel.peer.durable_size >= held.own_size

    def _drop_links(self) -> None:
        """What was received but not written must come again, on new links."""
        for link in self.links.values():
            link.close("the store failed")

    def notify(self) -> None:
        """Something changed that a caller may wait for."""
        self.changed.set()
        self.changed = trio.Event()

    # Connections

    def add_peer(self, peer: PeerIdentity) -> None:
        """A peer was paired: keep dialling it from now on; a link under other keys ends."""
        self.books.peers[peer.name] = peer
        link = self.links.get(peer.name)
        if link is not None:
            link.close("paired anew")
        if peer.name not in self._dialling and self._nursery is not None:
            self._nursery.start_soon(self._keep_dialling, peer.name)
        self.notify()

    async def _keep_dialling(self, name: str) -> None:
        """Stay connected: dial with jittered backoff while there is no link."""
        self._dialling.add(name)
        delay = DIAL_FIRST_SECONDS
        # The party whose name sorts first dials at once, the other a little later.
        await trio.sleep(0 if self.identity.name < name else 0.5)
        while True:
            began = trio.current_time()
            link = self.links.get(name)
            if link is not None:
                await link.ended.wait()
            else:
                try:
                    stream = await self._dial(self.books.peers[name])
                    await self.serve(stream, name, dialled=True)
                except TallyError as error:
                    _log.info("dialling failed", extra={"peer": name, "reason": error})
                except Exception:  # noqa: BLE001 - one peer must not take the node with it
                    _log.exception("dialling failed inside the node", extra={"peer": name})
            # A link that held for a while was a good one; others are tried ever more patiently.
            held = trio.current_time() - began > STEADY_SECONDS
            delay = DIAL_FIRST_SECONDS if held else min(delay * 2, DIAL_MAX_SECONDS)
            await trio.sleep(delay * self._dice.uniform(0.5, 1.0))

    async def serve(self, stream: Stream, name: str, *, dialled: bool) -> None:
        """Speak with a peer on an authenticated stream until it ends."""
        now = trio.current_time()
        allowance = self.allowances.get(name)
        if allowance is None:
            allowance = self.allowances[name] = Allowance(self.books.config.quotas, now)
        link = Link(self, stream, self.identity.name, name, allowance, dialled=dialled)
        # Links are counted where they arrive: how often we dial, we decide ourselves.
        if (not dialled and not allowance.may_connect(now)) or not await self._replace(name, link):
            await stream.aclose()
            return
        self.links[name] = link
        clock_us = self.books.clock_us
        hello = Hello(PROTOCOL_VERSION, self.identity.name, clock_us() // 1_000_000, self.address)
        try:
            await link.run(hello, lambda: clock_us() / 1e6)
        finally:
            if self.links.get(name) is link:
                del self.links[name]
            self.notify()

    async def _replace(self, name: str, link: Link) -> bool:
        """End the link that there is for a new one; whether the new one may take its place."""
        existing = self.links.get(name)
        if existing is None:
            return True
        if name in self._arriving or self._prefers(existing, link):
            return False
        self._arriving.add(name)
        try:
            existing.close("replaced by a newer connection")
            await existing.ended.wait()
        finally:
            self._arriving.discard(name)
        return self.links.get(name) in (None, existing)

    def _prefers(self, existing: Link, new: Link) -> bool:
        """When both dial at once both keep the connection that the first name dialled."""
        if existing.dialled == new.dialled:
            return False  # the same side dialled again: the older one is dead
        first_dials = self.identity.name < existing.peer
        return existing.dialled == first_dials

    # What links ask

    def reconcile(self, link: Link, channel: Channel, message: InReconciliation) -> None:
        """The peer says something in a reconciliation session."""
        self.reconciler.arrived(channel, link, message)

    async def greeted(self, link: Link, hello: Hello) -> None:
        """Learn where the peer listens now, and say which channels are open here."""
        await self.books.learn_address(link.peer, plain(hello.address))
        founding = self.books.founding
        for key, row in founding.rows.items():
            if row.peer == link.peer and row.state == "proposed":
                link.send(ProposeTerms(row.terms, founding.signature(founding.terms_of(key))))
        rows = founding.rows
        link.send(
            Channels([k for k, r in rows.items() if (r.peer, r.state) == (link.peer, "open")])
        )
        self.notify()

    async def channels_open(self, link: Link, listed: list[bytes]) -> None:
        """Speak of every open channel; tell the peer of those that it does not have open."""
        founding, open_there = self.books.founding, set(listed)
        for key, row in list(founding.rows.items()):
            if row.peer != link.peer:
                continue
            if row.state == "open":
                if key not in open_there:
                    link.send(founding.founded(key))
                channel, closer = self.books.channels[key]
                channel.keep_founded()
                await link.open_channel(channel, closer)
            elif row.state == "halted" and key in open_there:
                link.halt_unspoken(self.books.channels[key][0], row.reason)
        self.notify()

    async def handle_terms(
        self, link: Link, message: ProposeTerms | TermsHeld | TermsRefused | Founded
    ) -> None:
        """Founding: an offer, what became of our offer, or that both accepted."""
        match message:
            case ProposeTerms():
                await self._take_offer(link, message)
            case TermsHeld():
                if self._is_ours(link, message.channel):
                    self.held.add(message.channel)
                    self.refused.pop(message.channel, None)
            case TermsRefused():
                if self._is_ours(link, message.channel):
                    self.refused[message.channel] = plain(message.reason)
            case Founded():
                await self._take_founded(link, message)
        self.notify()

    def _is_ours(self, link: Link, channel: bytes) -> bool:
        """Whether a channel is a proposal of ours to the link's peer."""
        row = self.books.founding.rows.get(channel)
        return row is not None and (row.peer, row.state) == (link.peer, "proposed")

    async def _take_offer(self, link: Link, message: ProposeTerms) -> None:
        founding, peer = self.books.founding, self.books.peer(link.peer)
        terms = founding.check_offer(message.terms, message.signature, peer)
        key = channel_id(terms)
        most = self.books.config.quotas.proposals
        if key not in founding.rows and founding.waiting(peer.name) >= most:
            link.send(TermsRefused(key, f"{most} of your proposals wait here for a person already"))
            return
        key = await founding.offer(terms, peer, message.signature)
        if founding.rows[key].state == "open":
            link.send(founding.founded(key))
        else:
            link.send(TermsHeld(key))

    async def _take_founded(self, link: Link, message: Founded) -> None:
        founding, peer = self.books.founding, self.books.peer(link.peer)
        terms, signature = founding.check_founded(message, peer)
        key = channel_id(terms)
        row = founding.rows.get(key)
        if row is None:
            _log.warning(
                "the peer returns a channel that this home lost",
                extra={"peer": link.peer, "channel": key.hex()[:8]},
            )
            await founding.restore(terms, peer, signature)
        elif row.peer != link.peer:
            raise PeerBreach("bad-terms", "the peer speaks of a channel that it is not part of")
        elif row.state == "halted":
            link.halt_unspoken(self.books.channels[key][0], row.reason)
            return
        if founding.rows[key].state != "open":
            await self.open(key, signature, tell=False)

    async def open(self, key: bytes, signature: bytes | None = None, *, tell: bool = True) -> None:
        """Both have signed: open the channel, and speak of it on the link if there is one."""
        row = await self.books.founding.open(key, signature)
        if key in self.books.channels:
            return  # a person accepted, and the peer said so, at the same time
        channel, closer = self.books.load_channel(key)
        self._start(channel, closer)
        link = self.links.get(row.peer)
        if link is not None and link.live:
            if tell:
                link.send(self.books.founding.founded(key))
            await link.open_channel(channel, closer)
        await channel.own.settle()
        self.notify()

    async def halt(self, channel: Channel, reason: str) -> None:
        """Stop a channel durably; if the disk cannot keep that now, at once all the same. The first
        reason stays.
        """
        if self.books.founding.rows[channel.id].state == "halted":
            return
        try:
            await self.books.founding.halt(channel.id, reason)
        except StoreError as error:
            _log.error(
                "that a channel is halted cannot be kept",
                extra={"channel": channel.id.hex()[:8], "reason": error.message},
            )
            assert self._nursery is not None
            self._nursery.start_soon(self._keep_halted, channel, reason)
        self.notify()

    async def _keep_halted(self, channel: Channel, reason: str) -> None:
        while True:
            await trio.sleep(RETRY_SECONDS)
            with suppress(StoreError):
                await self.books.founding.halt(channel.id, reason)
                return

    async def convicted(self, channel: Channel, reason: str) -> None:
        """Evidence that is stored convicts a party: stop the channel, and tell the peer."""
        if self.books.founding.rows[channel.id].state == "halted":
            return
        channel.part()
        link = self.links.get(channel.peer_keys.name)
        if link is not None and link.live:
            link.halt_unspoken(channel, reason)
        await self.halt(channel, reason)

    async def set_doubt(self, channel: Channel, doubt: int) -> None:
        """Keep durably how certain it is what we signed last in a channel."""
        await self.books.founding.set_doubt(channel.id, doubt)
        channel.doubt = doubt
        self.notify()

    async def agree_on_loss(self, channel: Channel) -> None:
        """People say to go on with what is left; the link begins anew and says so."""
        await self.set_doubt(channel, 2)
        link = self.links.get(channel.peer_keys.name)
        if link is not None:
            link.close("people agreed to go on with what is left")
        self.notify()
