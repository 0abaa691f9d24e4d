"""The running node: the one file that knows everybody.

It locks the home, opens the books, listens for peers and for the command line, dials peers that
are not connected, and keeps at most one link to each. What the command line may ask is in
`service.py`.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Callable

import trio

from tallystick.node.books import Books, clock_us
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.errors import HomeError
from tallystick.node.link import Link
from tallystick.node.pairing import serve_join
from tallystick.node.store.residency import keep_small
from tallystick.node.transport import tls
from tallystick.node.upkeep import flush, tend, tend_index
from tallystick.protocol.errors import PeerBreach, TallyError
from tallystick.protocol.messages import (
    PROTOCOL_VERSION,
    AcceptTerms,
    Hello,
    ProposeTerms,
    TermsHeld,
)
from tallystick.protocol.pairing import PeerIdentity

DIAL_FIRST_SECONDS = 0.2
DIAL_MAX_SECONDS = 30.0
STEADY_SECONDS = 5.0
CONNECTIONS_MAX = 512
HANDSHAKE_SECONDS = 10

_log = logging.getLogger("tallystick.node")


class Node:
    """A node of one home. `run` serves until it is cancelled."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.identity = books.identity
        self.certificate = tls.certificate_der(self.identity.name, self.identity.transport)
        self.links: dict[str, Link] = {}
        self.address = ""
        self.held: set[bytes] = set()  # proposals that the peer said it holds
        self.changed = trio.Event()  # set, and replaced, when a link, peer or channel changes
        self._connections = 0
        self._dialling: set[str] = set()
        self._trusted: tuple[bytes, ...] = ()
        self._context: ssl.SSLContext | None = None
        self._nursery: trio.Nursery | None = None

    # Running

    async def run(self, listen: str, ready: Callable[[str], None]) -> None:
        """Serve. `ready(address)` is called once peers can connect."""
        host, port = tls.parse_address(listen)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.books.store.on_failure.append(self._drop_links)
            nursery.start_soon(self.books.store.run)
            nursery.start_soon(keep_small, self.books.home.store_path / "data.mdb")
            for channel, closer in self.books.channels.values():
                self._start(channel, closer)
            listeners = await self._bind(host, port)
            bound = listeners[0].socket.getsockname()
            shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
            self.address = self.books.config.network.advertise or f"{shown}:{bound[1]}"
            for peer in self.books.peers.values():
                nursery.start_soon(self._keep_dialling, peer.name)
            await nursery.start(self._listen, listeners)
            ready(f"{shown}:{bound[1]}")

    async def _bind(self, host: str, port: int) -> list[trio.SocketListener]:
        """Listen. With port 0, on the same port as last time if it is free: peers know that one."""
        last = self.books.last_port()
        if not port and last:
            try:
                return await trio.open_tcp_listeners(last, host=host)
            except OSError:
                _log.info("port %d is taken; listening on another", last)
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise HomeError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                "Is another program there? Choose another with --listen",
            ) from None
        await self.books.remember_port(listeners[0].socket.getsockname()[1])
        return listeners

    async def _listen(
        self,
        listeners: list[trio.SocketListener],
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await trio.serve_listeners(
            self._serve, listeners, handler_nursery=self._nursery, task_status=task_status
        )

    def _start(self, channel: Channel, closer: Closer) -> None:
        assert self._nursery is not None
        self.books.store.on_failure.append(channel.load)
        self._nursery.start_soon(channel.run)
        for log in (channel.own, channel.peer):
            self._nursery.start_soon(tend, log)
            self._nursery.start_soon(tend_index, log)

    def _drop_links(self) -> None:
        """What was received but not written must come again, on new links."""
        for link in self.links.values():
            link.close("the store failed")

    async def stop(self) -> None:
        """Write what would have to be read again at the next start."""
        for channel, _ in self.books.channels.values():
            await flush([channel.own, channel.peer])

    def notify(self) -> None:
        """Something changed that a caller may wait for."""
        self.changed.set()
        self.changed = trio.Event()

    # Connections

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._connections >= CONNECTIONS_MAX:
            await stream.aclose()
            return
        self._connections += 1
        try:
            context = self._server_context()
            accepted, key, alpn = await tls.accept(stream, context, HANDSHAKE_SECONDS)
            if alpn == tls.ALPN_PAIRING and key is None:
                await self._pair(accepted)
                return
            for peer in self.books.peers.values():
                if alpn == tls.ALPN_SESSION and peer.transport_key == key:
                    await self._link(accepted, peer.name, dialled=False)
                    return
            await accepted.aclose()
        except TallyError as error:
            _log.info("a connection was refused: %s", error)
        finally:
            self._connections -= 1

    def _server_context(self) -> ssl.SSLContext:
        """The context for listening, made anew when a peer was paired."""
        certificates = tuple(p.transport_certificate for p in self.books.peers.values())
        if self._trusted != certificates or self._context is None:
            self._trusted = certificates
            self._context = tls.server_context(
                self.identity, self.certificate, certificates, self.books.home.path
            )
        return self._context

    async def _pair(self, stream: tls.PeerStream) -> None:
        try:
            peer = await serve_join(
                stream,
                self.identity,
                self.certificate,
                self.address,
                self.books.pairing_book(),
                lambda: clock_us() / 1e6,
            )
        finally:
            await stream.aclose()
        if peer is not None:
            self.add_peer(peer)

    def add_peer(self, peer: PeerIdentity) -> None:
        """A peer was paired: keep dialling it from now on."""
        self.books.peers[peer.name] = peer
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
                    await self._dial(name)
                except TallyError as error:
                    _log.info("dialling %s: %s", name, error)
            # A link that held for a while was a good one; others are tried ever more patiently.
            held = trio.current_time() - began > STEADY_SECONDS
            delay = DIAL_FIRST_SECONDS if held else min(delay * 2, DIAL_MAX_SECONDS)
            await trio.sleep(delay * random.uniform(0.5, 1.0))

    async def _dial(self, name: str) -> None:
        peer = self.books.peers[name]
        context = tls.session_context(
            self.identity,
            self.certificate,
            peer.transport_certificate,
            self.books.home.path,
        )
        timeout = self.books.config.network.dial_timeout_seconds
        stream = await tls.dial(peer.address, context, peer.transport_key, timeout)
        await self._link(stream, name, dialled=True)

    async def _link(self, stream: tls.PeerStream, name: str, *, dialled: bool) -> None:
        link = Link(self, stream, self.identity.name, name, dialled=dialled)
        existing = self.links.get(name)
        if existing is not None:
            if self._prefers(existing, link):
                await stream.aclose()
                return
            existing.close("replaced by a newer connection")
            await existing.ended.wait()
        self.links[name] = link
        hello = Hello(PROTOCOL_VERSION, self.identity.name, clock_us() // 1_000_000, self.address)
        try:
            await link.run(hello, lambda: clock_us() / 1e6)
        finally:
            if self.links.get(name) is link:
                del self.links[name]
            self.notify()

    def _prefers(self, existing: Link, new: Link) -> bool:
        """When both dial at once both keep the connection that the first name dialled."""
        if existing.dialled == new.dialled:
            return False  # the same side dialled again: the older one is dead
        first_dials = self.identity.name < existing.peer
        return existing.dialled == first_dials

    # What links ask

    def channels_with(self, peer: str) -> list[tuple[Channel, Closer]]:
        """The open channels with a peer."""
        rows = self.books.founding.rows
        return [
            pair
            for key, pair in self.books.channels.items()
            if rows[key].peer == peer and rows[key].state == "open"
        ]

    async def greeted(self, link: Link, hello: Hello) -> None:
        """Learn where the peer listens now, and say again what may have got lost."""
        await self.books.learn_address(link.peer, hello.address)
        founding = self.books.founding
        for key, row in founding.rows.items():
            if row.peer != link.peer:
                continue
            if row.state == "proposed":
                link.send(ProposeTerms(row.terms, founding.signature(founding.terms_of(key))))
            elif row.state == "open" and not self.books.channels[key][0].peer.durable_size:
                link.send(AcceptTerms(key, founding.signature(founding.terms_of(key))))
        self.notify()

    async def handle_terms(
        self, link: Link, message: ProposeTerms | TermsHeld | AcceptTerms
    ) -> None:
        """Founding: an offer, that our offer arrived, or that it was accepted."""
        founding = self.books.founding
        peer = self.books.peer(link.peer)
        match message:
            case ProposeTerms():
                terms = founding.check_offer(message.terms, message.signature, peer)
                key = await founding.offer(terms, peer, message.signature)
                if founding.rows[key].state == "open":
                    link.send(AcceptTerms(key, founding.signature(terms)))
                else:
                    link.send(TermsHeld(key))
            case TermsHeld():
                self.held.add(message.channel)
            case AcceptTerms():
                row = founding.rows.get(message.channel)
                if row is None or row.peer != link.peer:
                    raise PeerBreach("bad-terms", "the peer accepted terms that nobody proposed")
                founding.verify_acceptance(message.channel, peer, message.signature)
                if row.state == "proposed":
                    await self.open(message.channel, message.signature)
        self.notify()

    async def open(self, key: bytes, signature: bytes | None = None) -> None:
        """Both have signed: open the channel, and speak of it on the link if there is one."""
        row = await self.books.founding.open(key, signature)
        channel, closer = self.books.load_channel(key)
        self._start(channel, closer)
        link = self.links.get(row.peer)
        if link is not None and link.live:
            link.send(AcceptTerms(key, self.books.founding.signature(channel.terms)))
            link.open_channel(channel, closer)
        await channel.found().wait()
        self.notify()

    async def halt(self, channel: Channel, reason: str) -> None:
        """Stop a channel durably."""
        await self.books.founding.halt(channel.id, reason)
        self.notify()
