"""The running node: sockets and TLS around the peering.

It listens for peers, tells sessions from pairings, and dials. What is said on a link is the
peering's; what the command line may ask is in `service.py`.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom

import trio

from tallystick.node.books import Books
from tallystick.node.errors import HomeError, StoreError
from tallystick.node.feed.events import NO_CHANNEL, make_row
from tallystick.node.feed.feed import Feed, Told
from tallystick.node.feed.silence import Silence
from tallystick.node.home import Home
from tallystick.node.pairing import serve_join
from tallystick.node.peering import Peering
from tallystick.node.pins import Pins
from tallystick.node.quotas import Bucket, Gate
from tallystick.node.segments.keeper import Keeper
from tallystick.node.standby.mode import mark_superseded
from tallystick.node.standby.serving import Mirroring, end_line
from tallystick.node.store.residency import keep_small
from tallystick.node.timestamping.stamper import Stamper
from tallystick.node.transport import tls
from tallystick.node.transport.outward import outward
from tallystick.node.transport.trusted import TrustedFolder
from tallystick.node.trusting import Trust
from tallystick.node.upkeep import flush_all
from tallystick.node.webhooks.webhooks import Webhooks
from tallystick.node.witnessing.submitting import Submitter
from tallystick.protocol.errors import TallyError
from tallystick.protocol.keys import KEYS_MAX
from tallystick.protocol.pairing import PeerIdentity

REPORT_SECONDS = 10
LINES_BURST = 60

_log = logging.getLogger("tallystick.node")


class Node:
    """A node of one home. `run` serves until it is cancelled."""

    def __init__(self, home: Home, books: Books) -> None:
        self.home = home
        self.books = books
        self.identity = books.identity
        self.certificate = tls.certificate_der(self.identity.name, self.identity.transport)
        self.peering = Peering(books, self._dial, SystemRandom())
        self.feed = Feed(books, self.peering.caught_up)
        self.webhooks = Webhooks(home.path, books, self.feed)
        self.keeper = Keeper(books)
        self.stamper = Stamper(books, home.path)
        self.submitter = Submitter(books)
        self._silence = Silence(self.feed, self.peering, books.config.feed.silent_seconds)
        self.gate = Gate(books.config.connections)
        self._lines = Bucket(1, LINES_BURST, 0)  # of the log, about strangers
        self._unsaid = 0  # refusals without a line of their own
        self.failed_handshakes = 0
        self.listening = False
        self.pins = Pins(books)
        self._trusted = TrustedFolder(home.path / "trusted")
        self._trust = Trust(books, self.pins, self._trusted, self._context_of)
        self._names: dict[str, int] = {}  # by which clients ask for them
        self.superseded = trio.Event()  # another node of our party took over
        self.mirroring: Mirroring | None = None
        if books.config.standby.serve and not books.store.read_only:
            self.mirroring = Mirroring(home, books, self.superseded)
            self.mirroring.tell = self._tell
        elif not books.store.read_only:
            end_line(books.store)
        self.peering.on_superseded = self._superseded

    async def run(self, listen: str, ready: Callable[[str], None]) -> None:
        """Serve. `ready(address)` is called once peers can connect."""
        host, port = tls.parse_address(listen)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.books.store.run)
            nursery.start_soon(keep_small, self.home.store_path / "data.mdb")
            nursery.start_soon(self._report_refusals)
            nursery.start_soon(self.feed.run)
            nursery.start_soon(self._silence.run)
            nursery.start_soon(self.webhooks.run)
            nursery.start_soon(self.keeper.run)
            nursery.start_soon(self.stamper.run)
            nursery.start_soon(self.submitter.run)
            self.peering.start(nursery)
            self._trust.begin()
            listeners = await self._bind(host, port)
            bound = listeners[0].socket.getsockname()
            # Not waited for: the standby that it may have to wait for connects to this port.
            nursery.start_soon(self.books.remember_port, bound[1])
            # "Every address" is nothing that a peer could dial.
            reached = tls.address_text(outward(bound[0]), bound[1])
            self.peering.address = self.books.config.network.advertise or reached
            self.peering.dial_all()
            await nursery.start(self._listen, listeners, nursery)
            self.listening = True
            ready(tls.address_text(bound[0], bound[1]))

    def _superseded(self, generation: int, proof: bytes | None) -> bool:
        """Another node of our party took over: stop for good, if our party says so."""
        if not mark_superseded(self.home, self.identity, generation, proof):
            return False
        _log.error(
            "another node of this party took over: this node stops, and signs nothing any more",
            extra={"generation": generation},
        )
        self.superseded.set()
        return True

    def _tell(self, kind: str, data: dict[str, object]) -> None:
        """Tell of something that concerns no channel."""
        row = make_row(kind, NO_CHANNEL, "", data, self.books.clock_us(), once=False)
        self.feed.tell(Told(row))

    async def _bind(self, host: str, port: int) -> list[trio.SocketListener]:
        """Listen. With port 0, on the same port as last time if it is free: peers know that one."""
        last = self.books.last_port()
        if not port and last:
            try:
                return await trio.open_tcp_listeners(last, host=host)
            except OSError:
                _log.info("the port is taken; listening on another", extra={"port": last})
        try:
            return await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise HomeError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                "Is another program there? Choose another with --listen",
            ) from None

    async def _listen(
        self,
        listeners: list[trio.SocketListener],
        nursery: trio.Nursery,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await trio.serve_listeners(
            self._serve, listeners, handler_nursery=nursery, task_status=task_status
        )

    async def stop(self) -> None:
        """Write what would have to be read again at the next start."""
        if self.mirroring is not None:
            self.mirroring.stop()
        logs = [log for c, _ in self.books.channels.values() for log in (c.own, c.peer)]
        with suppress(StoreError):  # it is read again at the next start
            await flush_all(logs)

    async def _report_refusals(self) -> None:
        """Say how many were turned away, now and then: a line for each would fill the disk."""
        while True:
            await trio.sleep(REPORT_SECONDS)
            refused, self._unsaid = self.gate.report() + self._unsaid, 0
            if refused:
                _log.warning(
                    "connections were refused: too many, or too often", extra={"count": refused}
                )

    def _note_refusal(self, error: TallyError) -> None:
        self.failed_handshakes += 1
        if self._lines.try_take(1, trio.current_time()):
            _log.info("a connection was refused", extra={"reason": error})
        else:
            self._unsaid += 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Serve whoever connected. Whatever goes wrong in it ends this connection and no more."""
        try:
            address = str(stream.socket.getpeername()[0])
        except OSError:
            address = ""  # it is gone already
        if not address or not self.gate.enter(address, trio.current_time()):
            await trio.aclose_forcefully(stream)
            return
        stranger = True
        try:
            timeout = self.books.config.connections.handshake_seconds
            accepted, key, alpn = await tls.accept(stream, self._trust.context(0), timeout)
            peer = self._trust.peer_of(key) if alpn == tls.ALPN_SESSION and key else None
            if alpn == tls.ALPN_STANDBY and key == self.identity.transport_key and self.mirroring:
                self.gate.leave(address)
                stranger = False
                await self.mirroring.serve(accepted)
            elif peer is not None:
                self.gate.leave(address)
                stranger = False
                await self.peering.serve(accepted, peer.name, dialled=False)
            elif (
                alpn == tls.ALPN_PAIRING
                and key is None
                and self.gate.may_pair(address, trio.current_time())
            ):
                await self._pair(accepted)
            else:
                await accepted.aclose()
        except TallyError as error:
            self._note_refusal(error)
        except Exception:  # noqa: BLE001 - one connection must not take the node with it
            _log.exception("a connection failed inside the node", extra={"address": address})
            await trio.aclose_forcefully(stream)
        finally:
            if stranger:
                self.gate.leave(address)

    def _context_of(self, number: int) -> ssl.SSLContext:
        """A context for listening that shows this transport key of ours."""
        key = self.identity.signer("transport", number)
        certificate = tls.certificate_der(self.identity.name, key)
        context = tls.server_context(tls.Shown(key), certificate, [], self.home.path)
        context.load_verify_locations(capath=str(self._trusted.path))
        if self.mirroring is not None:  # our standby shows the certificate that is ours
            context.load_verify_locations(cadata=self.certificate)
        if not number:
            tls.serve_by_name(context, self._context_named)
        return context

    def _context_named(self, name: str) -> ssl.SSLContext | None:
        """The context of whichever transport key of ours a client asks for."""
        if not self._names:
            # Every key that the seed gives: a home that lost its store shows them too.
            keys = (self.identity.signer("transport", number) for number in range(KEYS_MAX))
            self._names = {tls.server_name(bytes(key.verify_key)): n for n, key in enumerate(keys)}
        number = self._names.get(name)
        return None if number is None else self._trust.context(number)

    async def _pair(self, stream: tls.PeerStream) -> None:
        try:
            peer = await serve_join(
                stream,
                self.identity,
                self.certificate,
                self.peering.address,
                self.books.pairing_book(),
                lambda: self.books.clock_us() / 1e6,
            )
        finally:
            await stream.aclose()
        if peer is not None:
            self.peering.add_peer(peer)

    async def _dial(self, peer: PeerIdentity) -> tls.PeerStream:
        key, pin = self.pins.own_key(peer), self.pins.newest(peer)
        timeout = self.books.config.network.dial_timeout_seconds

        def context() -> ssl.SSLContext:
            own = tls.certificate_der(self.identity.name, key)
            return tls.session_context(tls.Shown(key), own, pin.certificate, self.home.path)

        return await tls.dial(peer.address, context, pin.key, timeout)
