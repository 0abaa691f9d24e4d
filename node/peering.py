"""Links to the peers: at most one each, dialled again whenever it ends, and what is said on them
about whole channels: proposals, founding, which channels are open.

How a stream to a peer comes about, the clock and the dice are handed in, so the same code runs over
TLS and in a simulation.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from random import Random

import trio

from tallystick.node.admitting import Admission
from tallystick.node.attending import Attendant
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.declaring import Declarer
from tallystick.node.dialling import LATER_SECONDS, Dialler
from tallystick.node.errors import StoreError
from tallystick.node.feed.events import NO_CHANNEL, iso
from tallystick.node.fencing import Fences
from tallystick.node.gossiping.judging import Judge
from tallystick.node.gossiping.presences import Presences
from tallystick.node.gossiping.spreading import Spreading
from tallystick.node.gossiping.talker import Talker
from tallystick.node.lapsing import Lapser
from tallystick.node.link import PING_SECONDS, Link
from tallystick.node.quotas import Allowance
from tallystick.node.reconciling.sessions import Reconciler
from tallystick.node.rotating import Rotator
from tallystick.node.streams import Stream
from tallystick.node.upkeep import RETRY_SECONDS
from tallystick.protocol.blinding import OpenedPresence
from tallystick.protocol.errors import PeerBreach
from tallystick.protocol.generation import prove_generation
from tallystick.protocol.items import Carried
from tallystick.protocol.messages import (
    PROTOCOL_VERSION,
    Accusation,
    Channels,
    Fenced,
    Founded,
    Hearsay,
    Hello,
    InFounding,
    InReconciliation,
    Message,
    Ping,
    Presence,
    Promoted,
    ProposeTerms,
    TermsHeld,
    TermsRefused,
    plain,
)
from tallystick.protocol.pairing import PeerIdentity
from tallystick.protocol.terms import channel_id

PINGS_A_TURN = 100  # before others may run

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
        self._admission = Admission(books.identity.name)
        self.links: Mapping[str, Link] = self._admission.links
        self.fences = Fences(books)
        self.on_superseded: Callable[[int, bytes | None], bool] = lambda generation, proof: False
        self.presences = Presences(books, dice)
        judge = Judge(books, self._went_back, self.convicted)
        self.talker = Talker(books, self.presences, judge, self.links, self._copied, dice)
        self._spreading = Spreading(books, self.links, self.convicted)
        followers = (self.lapser, self.declarer, self.talker)
        self._attendant = Attendant(books.errands, self.rotator, followers, self._send_more)
        self.address = ""
        self.held: set[bytes] = set()  # proposals that the peer said it holds
        self.refused: dict[bytes, str] = {}  # those that it did not take, and why
        self.changed = trio.Event()  # set, and replaced, when a link, peer or channel changes
        self._dial = dial
        self._dialler = Dialler(self._connect, self._serve_dialled, self._may_dial, dice)
        self._pings: deque[tuple[float, Link]] = deque()  # who is pinged next, and when
        self.allowances: dict[str, Allowance] = {}
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Begin the tasks of the channels; dialling begins with `dial_all`."""
        self._nursery = nursery
        self.books.errands.start(nursery)
        self._attendant.start(nursery)
        self.reconciler.start(nursery)
        nursery.start_soon(self._keep_pinging)
        nursery.start_soon(self.talker.run)
        self.books.store.on_failure += [self._drop_links, self._load_again]
        concerned = self.books.concerned()
        for channel, _ in self.books.channels.values():
            self._start(channel, concerned=channel.row.number in concerned)

    def dial_all(self) -> None:
        """Keep dialling every peer."""
        assert self._nursery is not None
        self._dialler.start(self._nursery)
        for name in self.books.peers:
            self._dial_soon(name)

    def _dial_soon(self, name: str) -> None:
        """The party whose name sorts first dials at once, the other a little later."""
        self._dialler.add(name, 0 if self.identity.name < name else LATER_SECONDS)

    def _start(self, channel: Channel, *, concerned: bool) -> None:
        if self.books.founding.rows[channel.id].state == "open":
            channel.keep_founded()
        self._attendant.attend(channel, concerned=concerned)
        self.talker.attend(channel.id)

    def _send_more(self, channel: Channel) -> None:
        """Our log grew: send of it what the peer may have."""
        link = self.links.get(channel.peer_keys.name)
        if link is not None:
            link.wake(channel)

    def _load_again(self) -> None:
        for channel, closer in self.books.channels.values():
            channel.load()
            closer.load()

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
        self._dial_soon(peer.name)
        self.notify()

    def _may_dial(self, name: str) -> bool:
        peer = self.books.peers.get(name)
        there = peer is not None and bool(peer.address)
        return there and name not in self.links and not self.presences.stopped

    async def _connect(self, name: str) -> Stream:
        return await self._dial(self.books.peers[name])

    async def _serve_dialled(self, stream: Stream, name: str) -> None:
        await self.serve(stream, name, dialled=True)

    async def _keep_pinging(self) -> None:
        """Show every peer that we are there, for as long as the node runs."""
        while True:
            now = trio.current_time()
            for turn in count(1):
                if not self._pings or self._pings[0][0] > now:
                    break
                _, link = self._pings.popleft()
                if not link.ended.is_set():
                    link.send(Ping())
                    self._pings.append((now + PING_SECONDS, link))
                if not turn % PINGS_A_TURN:
                    await trio.lowlevel.checkpoint()
            await trio.sleep_until(self._pings[0][0] if self._pings else now + PING_SECONDS)

    async def serve(self, stream: Stream, name: str, *, dialled: bool) -> None:
        """Speak with a peer on an authenticated stream until it ends."""
        now = trio.current_time()
        allowance = self.allowances.get(name)
        if allowance is None:
            allowance = self.allowances[name] = Allowance(self.books.config.quotas, now)
        link = Link(self, stream, self.identity.name, name, allowance, dialled=dialled)
        # Links are counted where they arrive: how often we dial, we decide ourselves.
        refused = self.presences.stopped or (not dialled and not allowance.may_connect(now))
        if refused or not self._admission.enter(link):
            await stream.aclose()
            return
        clock_us = self.books.clock_us
        hello = Hello(PROTOCOL_VERSION, self.identity.name, clock_us() // 1_000_000, self.address)
        self._pings.append((now + PING_SECONDS, link))
        try:
            await link.run(hello, lambda: clock_us() / 1e6)
        finally:
            if self._admission.leave(link):
                self.talker.disconnected(name)
                if not dialled:  # the dialler hears of its own
                    self._dialler.ended(name, trio.current_time() - now)
            self.notify()

    # What links ask

    def presence(self, *, asks: bool = False) -> Presence:
        """Which process of ours this is, said now."""
        return self.presences.message(asks=asks)

    def hearsay(self, link: Link, message: Hearsay) -> None:
        """The peer passes gossip on."""
        self.talker.heard(link, message)

    async def accused(self, link: Link, message: Accusation) -> None:
        """The peer sends evidence."""
        await self._spreading.hear(link, message)
        self.notify()

    def introduction(self, hello: Hello) -> list[Message]:
        """What is said first on a link; who took over from another home proves it."""
        generation = self.books.generation
        said: list[Message] = [hello]
        if generation:
            said.append(Promoted(generation, prove_generation(self.identity, generation)))
        return [*said, self.presence()]

    def fenced(self, link: Link, message: Fenced) -> None:
        """The peer says that another node of our party took over: if the party says so, stop."""
        newer = message.generation > self.books.generation
        if not (newer and self.superseded(message.generation, message.proof)):
            _log.error(
                "the peer says that this node was superseded, and does not prove it",
                extra={"peer": link.peer},
            )
        link.close("the peer says that another node of this party took over")

    async def admit(self, link: Link, presence: Presence) -> None:
        """The peer said which process speaks: the link counts from now on, or may not."""
        peer = self.books.peer(link.peer)
        self.fences.check(peer, presence)
        if await self.fences.raise_to(peer, presence, link.promoted):
            await self._admission.dismiss(link, self.fences.of(peer))
        await self._admission.admit(link, presence)

    def reconcile(self, link: Link, channel: Channel, message: InReconciliation) -> None:
        """The peer says something in a reconciliation session."""
        self.reconciler.arrived(channel, link, message)

    async def greeted(self, link: Link, hello: Hello) -> None:
        """Learn where the peer listens now, and say which channels are open here."""
        await self.books.learn_address(link.peer, plain(hello.address))
        founding = self.books.founding
        rows = founding.of_peer(link.peer)
        for key, row in rows:
            if row.state == "proposed":
                link.send(ProposeTerms(row.terms, founding.signature(founding.terms_of(key))))
        link.send(Channels([key for key, row in rows if row.state == "open"]))
        self._spreading.tell(link)
        self.talker.connected(link)
        self.notify()

    async def channels_open(self, link: Link, listed: list[bytes]) -> None:
        """Speak of every open channel; tell the peer of those that it does not have open."""
        founding, open_there = self.books.founding, set(listed)
        for key, row in founding.of_peer(link.peer):
            if row.state == "open":
                if key not in open_there:
                    link.send(founding.founded(key))
                channel, closer = self.books.channels[key]
                channel.keep_founded()
                await link.open_channel(channel, closer)
            elif row.state == "halted" and key in open_there:
                link.halt_unspoken(self.books.channels[key][0], row.reason)
        self.notify()

    async def handle_terms(self, link: Link, message: InFounding) -> None:
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
        self._start(channel, concerned=True)
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
        self._spreading.tell_of(channel)
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
        self._attendant.stirred(channel)
        self.notify()

    async def _went_back(self, channel: Channel) -> None:
        """Gossip shows that this home is older than it was: have the channel confirmed anew."""
        channel.part()
        if not channel.doubt:
            await self.set_doubt(channel, 1)
        link = self.links.get(channel.peer_keys.name)
        if link is not None:
            link.close("gossip shows more than is here")
        self.notify()

    def superseded(self, generation: int, proof: bytes | None) -> bool:
        """Another node of our party took over, if the proof holds (None: the party's own word was
        heard): sign nothing any more.
        """
        if not self.on_superseded(generation, proof):
            return False
        for channel, _ in self.books.channels.values():
            channel.part()
        return True

    async def _copied(self, other: OpenedPresence) -> None:
        """Another copy of this home runs: hold no sessions until people decide."""
        if other.generation > self.books.generation and self.superseded(other.generation, None):
            return
        first = not self.presences.stopped
        seen = iso(min(other.at_ms * 1000, self.books.clock_us()))
        await self.presences.stop(other)
        if first:
            _log.error(
                "another copy of this home runs: this one stops, and signs nothing until people"
                " decide (tally recover --only-copy)",
                extra={"seen": seen},
            )
            self.books.news.happened("copy.found", NO_CHANNEL, {"seen": seen})
            # The other one may have heard nothing of us since it began: then it would go on alone.
            answer = Hearsay([Carried(0, self.presences.answer(other))], [])
            for link in self.links.values():
                if link.live:
                    link.send(answer)
        said = PeerBreach("twins", f"another copy of {self.identity.name} runs: this one stops")
        async with trio.open_nursery() as nursery:
            for link in list(self.links.values()):
                nursery.start_soon(link.part, said)
        self.notify()

    async def only_copy(self) -> None:
        """People say that no other copy of this home runs any more: go on. What the other one
        signed may be more than is here, so nothing is certain before the peers spoke.
        """
        for channel, _ in self.books.channels.values():
            if not channel.doubt and self.books.founding.rows[channel.id].state == "open":
                await self.set_doubt(channel, 1)
        await self.presences.go_on()
        for name in self.books.peers:
            self._dial_soon(name)
        self.notify()

    async def agree_on_loss(self, channel: Channel) -> None:
        """People say to go on with what is left; the link begins anew and says so."""
        await self.set_doubt(channel, 2)
        link = self.links.get(channel.peer_keys.name)
        if link is not None:
            link.close("people agreed to go on with what is left")
        self.notify()
