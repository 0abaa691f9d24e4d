"""One live connection to a peer's node: the thin pump between a stream and a session.

`Link` carries bytes between the TLS stream and the sans-IO session, hands messages to whoever
decides about them, sends our logs' batches within the session's window, and shows that it is
alive. When it ends, for whatever reason, nothing is lost: the next one begins with what each side
holds.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.errors import PeerUnreachable
from tallystick.node.store.disk import Ticket
from tallystick.node.transport.tls import PeerStream
from tallystick.protocol.errors import PeerBreach, ProofError, TallyError, lone_error
from tallystick.protocol.messages import (
    AcceptTerms,
    Append,
    Bye,
    Cosign,
    Difference,
    Halt,
    Hello,
    Holding,
    Message,
    Ping,
    ProposeCheckpoint,
    ProposeTerms,
    RefuseCheckpoint,
    Return,
    SignCheckpoint,
    StatementPage,
    TermsHeld,
    WantPage,
)
from tallystick.protocol.records import Close, decode_batch
from tallystick.protocol.session import APPENDS_IN_FLIGHT_MAX, Session
from tallystick.protocol.states import Channel as Standing
from tallystick.protocol.states import Connection

PING_SECONDS = 15
SILENCE_SECONDS = 50  # a peer that says nothing for so long is taken for gone
SKEW_SECONDS = 300  # a clock off by more is reported
OUTBOX_FRAMES_MAX = 1024

_log = logging.getLogger("tallystick.link")


class Owner(Protocol):
    """What a link needs of the node: its channels with this peer, and decisions about terms."""

    def channels_with(self, peer: str) -> list[tuple[Channel, Closer]]:
        """The open channels."""

    async def greeted(self, link: Link, hello: Hello) -> None:
        """The peer said hello: send again what it may have missed."""

    async def handle_terms(
        self, link: Link, message: ProposeTerms | TermsHeld | AcceptTerms
    ) -> None:
        """Founding of channels."""

    async def halt(self, channel: Channel, reason: str) -> None:
        """Stop a channel durably."""


class Link:
    """A connection that authenticated as `peer`."""

    def __init__(
        self, owner: Owner, stream: PeerStream, party: str, peer: str, *, dialled: bool
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.session = Session(party, peer)
        self.ended = trio.Event()
        self.skew_seconds = 0.0
        self._owner = owner
        self._stream = stream
        self._channels: dict[bytes, tuple[Channel, Closer]] = {}
        self._held: dict[bytes, int] = {}  # how much of our log the peer returns
        self._wakes: dict[bytes, trio.Event] = {}
        self._outbox: deque[bytes] = deque()
        self._outgoing = trio.Event()
        self._unanswered: deque[Ticket] = deque()  # the peer's batches on their way to the disk
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()

    @property
    def live(self) -> bool:
        """Whether both hellos were exchanged and the link has not ended."""
        return self.session.state is Connection.LIVE and not self.ended.is_set()

    def send(self, message: Message) -> None:
        """Queue a message; the outbox is bounded by what the protocol lets be in flight."""
        if self.ended.is_set() or self.session.state is Connection.CLOSED:
            return
        self._outbox.append(self.session.send(message))
        self._outgoing.set()
        if len(self._outbox) > OUTBOX_FRAMES_MAX:
            self.close("the peer does not read")

    def close(self, reason: str) -> None:
        """End the link."""
        _log.info("link to %s closes: %s", self.peer, reason)
        self._scope.cancel()

    async def run(self, hello: Hello, clock_s: Callable[[], float]) -> None:
        """Serve the connection until it ends."""
        self._clock_s = clock_s
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._ping)
                    self.send(hello)
                    await self._read()
                    nursery.cancel_scope.cancel()
        except* TallyError as group:
            # The peer went away, or our disk failed: the next link begins with what is held.
            _log.warning("link to %s ends: %s", self.peer, lone_error(group))
        finally:
            self.ended.set()
            for channel, _ in self._channels.values():
                channel.live = False
            with trio.CancelScope(shield=True):
                await self._stream.aclose()

    async def _write(self) -> None:
        while True:
            await self._outgoing.wait()
            self._outgoing = trio.Event()
            while self._outbox:
                data = b"".join(self._outbox)
                self._outbox.clear()
                with trio.move_on_after(SILENCE_SECONDS) as waiting:
                    try:
                        await self._stream.send(data)
                    except PeerUnreachable as error:
                        self.close(error.message)
                if waiting.cancelled_caught:
                    self.close("the peer does not read")

    async def _ping(self) -> None:
        while True:
            await trio.sleep(PING_SECONDS)
            self.send(Ping())

    async def _read(self) -> None:
        try:
            while True:
                with trio.move_on_after(SILENCE_SECONDS) as waiting:
                    data = await self._stream.receive()
                if waiting.cancelled_caught or not data:
                    _log.info("%s is gone", self.peer)
                    return
                self.session.feed(data)
                while (message := self.session.next_message()) is not None:
                    await self._handle(message)
        except PeerBreach as breach:
            _log.warning("%s broke the protocol (%s): %s", self.peer, breach.code, breach)
            self.send(Bye(breach.code, str(breach)[:1000]))
            with trio.move_on_after(1):
                while self._outbox:
                    await trio.sleep(0.01)
                await trio.sleep(0.05)

    async def _handle(self, message: Message) -> None:
        match message:
            case Hello():
                self.skew_seconds = message.clock_s - self._clock_s()
                if abs(self.skew_seconds) > SKEW_SECONDS:
                    _log.warning(
                        "the clock of %s is %+.0f s off ours; records keep their times,"
                        " but check both clocks",
                        self.peer,
                        self.skew_seconds,
                    )
                await self._owner.greeted(self, message)
                for channel, closer in self._owner.channels_with(self.peer):
                    self.open_channel(channel, closer)
            case ProposeTerms() | TermsHeld() | AcceptTerms():
                await self._owner.handle_terms(self, message)
            case Bye():
                _log.warning(
                    "%s closed the session (%s): %s", self.peer, message.code, message.reason
                )
                self.close("the peer said bye")
            case Ping():
                pass
            case _:
                await self._handle_in_channel(message)

    def open_channel(self, channel: Channel, closer: Closer) -> None:
        """Begin to speak of an open channel: say what we hold of the peer's log."""
        if channel.id in self._channels:
            return
        peer = channel.peer
        self._channels[channel.id] = (channel, closer)
        self._wakes[channel.id] = trio.Event()
        self.session.add_channel(channel.id, channel.own.state.size, peer.state.size)
        size = peer.state.size
        root, signature, cosignature = bytes(32), b"", b""
        if size:
            with channel.store.read() as txn:
                row = peer.head_row(txn, size)
            assert row is not None
            root, signature, cosignature = row.root, row.signature, row.cosignature
        own_size = channel.own.state.size
        self.send(Holding(channel.id, own_size, size, root, signature, cosignature))
        assert self._nursery is not None
        self._nursery.start_soon(self._send_log, channel)

    async def _handle_in_channel(self, message: Message) -> None:
        assert not isinstance(message, Hello | Bye | Ping | ProposeTerms | TermsHeld | AcceptTerms)
        channel, closer = self._channels[message.channel]
        link = self.session.channels[message.channel]
        if link.state is Standing.HALTED and not isinstance(message, Halt):
            return
        try:
            match message:
                case Holding():
                    await self._confirm(channel, message)
                case Append():
                    await self._take(channel, closer, message)
                case Cosign():
                    channel.take_cosignature(message.size, message.cosignature)
                    self._wake(channel)
                case Return():
                    await self._recover(channel, message)
                case Halt():
                    _log.warning("%s halted the channel: %s", self.peer, message.reason)
                    await self._owner.halt(channel, f"the peer halted it: {message.reason}")
                    channel.live = False
                case _:
                    # May wait for the disk or the peer, and the peer's next words with it.
                    assert self._nursery is not None
                    self._nursery.start_soon(self._handle_closing, closer, message)
        except PeerBreach as breach:
            await self._halt(channel, breach)

    async def _handle_closing(self, closer: Closer, message: Message) -> None:
        assert isinstance(
            message,
            ProposeCheckpoint
            | SignCheckpoint
            | RefuseCheckpoint
            | StatementPage
            | WantPage
            | Difference,
        )
        try:
            await closer.handle(message, self.send)
        except PeerBreach as breach:
            await self._halt(closer.channel, breach)
        except TallyError as error:
            _log.error("checkpoint: %s", error)

    async def _halt(self, channel: Channel, breach: PeerBreach) -> None:
        """A breach in a channel stops that channel and no other."""
        _log.error("channel %s halts: %s", channel.id.hex()[:8], breach)
        channel.live = False
        if self.session.channels[channel.id].state is not Standing.HALTED:
            self.send(Halt(channel.id, str(breach)[:1000]))
        await self._owner.halt(channel, str(breach))

    # Our log to the peer

    async def _confirm(self, channel: Channel, message: Holding) -> None:
        """The peer said what it holds of our log: go on from there, or fetch back what we lost."""
        own = channel.own
        if message.size:
            try:
                head = own.head(message.size, message.root)
                channel.verify_ours(head, message.signature)
            except ProofError:
                raise PeerBreach("bad-head", "the peer shows a head that we never signed") from None
        if message.own_size < channel.peer.durable_size:
            assert self._nursery is not None
            self._nursery.start_soon(self._give_back, channel, message.own_size)
        if message.size > own.state.size:
            if own.state.size > own.signed_size:
                raise PeerBreach(
                    "restored",
                    f"the peer holds {message.size} records of our log, we signed"
                    f" {own.signed_size} and recorded more since",
                    "This home looks restored from an old backup: nothing is signed, nothing lost",
                )
            _log.warning(
                "the peer holds %d records of our log, we have %d: fetching ours back",
                message.size,
                own.state.size,
            )
            self._held[channel.id] = message.size
            return
        if message.size:
            with channel.store.read() as txn:
                row = own.head_row(txn, message.size)
            if row is None or row.root != message.root:
                raise PeerBreach(
                    "inconsistent",
                    f"the peer holds another history of our log at size {message.size}",
                    "Was this home restored from a backup and written to? Keep both copies",
                )
            if message.cosignature and message.size >= own.cosigned_size:
                if not row.signature:
                    await own.store_signature(message.size, row.root, message.signature).wait()
                channel.take_cosignature(message.size, message.cosignature)
        channel.live = True
        self._wake(channel)

    def _wake(self, channel: Channel) -> None:
        self._wakes[channel.id].set()
        self._wakes[channel.id] = trio.Event()

    async def _send_log(self, channel: Channel) -> None:
        """Send our log's batches as they become durable, within the session's window."""
        link = self.session.channels[channel.id]
        own = channel.own
        while True:
            grown, wake = own.grown, self._wakes[channel.id]
            if link.may_append and own.durable_size > link.sent_size:
                batch = await channel.signed_batch(link.sent_size)
                link.own_size = max(link.own_size, batch.size)
                if link.may_append and batch.first == link.sent_size:
                    self.send(Append(channel.id, batch.first, batch.data, batch.signature))
                await trio.lowlevel.checkpoint()
                continue
            await _first_of(grown, wake)

    async def _give_back(self, channel: Channel, start: int) -> None:
        """Send the peer the records of its own log that it lost."""
        peer = channel.peer
        while start < peer.durable_size:
            batch = peer.batch_from(start, peer.durable_size)
            self.send(Return(channel.id, batch.first, batch.data, batch.signature))
            start = batch.size
            while self._outbox:
                await trio.sleep(0.01)

    async def _recover(self, channel: Channel, message: Return) -> None:
        """Take records of our own log back from the peer, checking our signature on them."""
        await channel.take_back(message).wait()
        if channel.own.state.size >= self._held[channel.id]:
            self.session.recovered(channel.id)
            channel.live = True
            self._wake(channel)

    # The peer's log to us

    async def _take(self, channel: Channel, closer: Closer, message: Append) -> None:
        while len(self._unanswered) >= APPENDS_IN_FLIGHT_MAX:
            await self._unanswered.popleft().wait()

        def then(size: int, cosignature: bytes) -> None:
            self.send(Cosign(channel.id, size, cosignature))

        self._unanswered.append(channel.receive(message, then))
        if b"tallystick checkpoint" in message.batch:
            records, _ = decode_batch(message.batch)
            await self._unanswered[-1].wait()
            for record in records:
                if isinstance(record, Close):
                    await closer.take_close(record)


async def _first_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
