"""One live connection to a peer's node: the thin pump between a stream and a session.

`Link` carries bytes between the TLS stream and the sans-IO session, hands messages to whoever
decides about them, sends our logs' batches within the session's window, and shows that it is
alive. When it ends, for whatever reason, nothing is lost: the next one begins with what each side
holds.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from tallystick.node import accusing, recovery
from tallystick.node.answering import Answering
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.errors import ArchiveError
from tallystick.node.fencing import last_word
from tallystick.node.outbox import Outbox
from tallystick.node.quotas import Allowance, quota_reached
from tallystick.node.readback import read_back
from tallystick.node.store.disk import Ticket
from tallystick.node.store.matters import CHECKPOINT_MARK
from tallystick.node.streams import Owner, Stream
from tallystick.protocol.errors import PeerBreach, ProofError, TallyError, lone_error
from tallystick.protocol.messages import (
    APPEND_RECORDS_MAX,
    Accusation,
    Append,
    Bye,
    Channels,
    Cosign,
    Fenced,
    Founded,
    Full,
    Halt,
    Hearsay,
    Hello,
    Holding,
    InClosing,
    InReconciliation,
    Message,
    OfConnection,
    Ping,
    Presence,
    Promoted,
    ProposeTerms,
    Return,
    TermsHeld,
    TermsRefused,
    plain,
)
from tallystick.protocol.records import batch_count
from tallystick.protocol.session import (
    APPENDS_IN_FLIGHT_MAX,
    Rewriting,
    Session,
)
from tallystick.protocol.states import SENDABLE, Connection
from tallystick.protocol.states import Channel as Standing

PING_SECONDS = 15  # whoever owns the links pings each of them so often
SILENCE_SECONDS = 50  # a peer that says nothing for so long is taken for gone
SKEW_SECONDS = 300  # a clock off by more is reported
RECORDS_IN_FLIGHT_MAX = APPEND_RECORDS_MAX  # of the peer's, on their way to the disk
SMALL_BYTES = 4 * 1024  # of a batch that is sent at once
BUSY_BYTES = 64 * 1024  # on their way to a peer, after which gossip waits
RETURN_SECONDS = 30  # a peer that returns nothing of our log for so long does not mean to

_log = logging.getLogger("tallystick.link")


class Link:
    """A connection that authenticated as `peer`."""

    def __init__(
        self,
        owner: Owner,
        stream: Stream,
        party: str,
        peer: str,
        allowance: Allowance,
        *,
        dialled: bool,
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.session = Session(party, peer)
        self.ended = trio.Event()
        self.skew_seconds = 0.0
        self.presence: Presence | None = None  # which process of the peer speaks
        self.presence_heard = trio.Event()  # replaced whenever we ask
        self.promoted: Promoted | None = None  # what proves the peer's generation
        self._admitted = False
        self._hello: Hello | None = None
        self._owner = owner
        self._stream = stream
        self._channels: dict[bytes, tuple[Channel, Closer]] = {}
        self._held: dict[bytes, Holding] = {}  # what the peer said that it holds of our logs
        self._sending: set[bytes] = set()  # channels whose log is under way
        self._halted: set[bytes] = set()  # by the peer
        self._full: set[bytes] = set()  # channels of which nothing more of the peer's log is taken
        self._allowance = allowance
        self._outbox = Outbox()
        self._writing = False
        self._over = False  # nothing new is begun
        self._unanswered: list[tuple[Ticket, int]] = []  # the peer's batches, and their records
        self._answering = Answering()
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()

    @property
    def live(self) -> bool:
        """Whether the peer introduced itself, this link counts, and it has not ended."""
        there = self._admitted and self.session.state is Connection.LIVE
        return there and not self.ended.is_set()

    @property
    def busy(self) -> bool:
        """Whether what can wait had better wait."""
        return self._outbox.waiting_bytes > BUSY_BYTES

    def holding(self, channel: bytes) -> Holding | None:
        """What the peer said on this link that it holds in a channel; None before it did."""
        return self._held.get(channel)

    def send(self, message: Message) -> None:
        """Queue a message."""
        if self.ended.is_set() or self.session.state is Connection.CLOSED:
            return
        frame = self.session.send(message)
        if not self._writing and self._stream.send_nowait(frame):
            return
        self._outbox.put(frame, answer=not isinstance(message, Append | Return))
        if not self._writing:
            self._writing = True
            self._begin(self._write)

    def ask_presence(self) -> None:
        """Have the peer say again which process speaks: `presence_heard` is set when it does."""
        self.presence_heard = trio.Event()
        self.send(self._owner.presence(asks=True))

    def _begin(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Do something beside the reading, unless the link is about to end."""
        assert self._nursery is not None
        if not self._over:
            self._nursery.start_soon(work, *arguments)

    async def _write(self) -> None:
        await self._outbox.write(self._stream.send, SILENCE_SECONDS)
        self._writing = False

    async def part(self, breach: PeerBreach) -> None:
        """End the link, and have the peer know why."""
        if not self.ended.is_set():
            await self._say_bye(breach)
            self.close(breach.message)

    def close(self, reason: str) -> None:
        """End the link."""
        _log.info("the link closes", extra={"peer": self.peer, "reason": reason})
        self._scope.cancel()

    async def run(self, hello: Hello, clock_s: Callable[[], float]) -> None:
        """Serve the connection until it ends."""
        self._clock_s = clock_s
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        for said in self._owner.introduction(hello):
                            self.send(said)
                        await self._read()
                    finally:
                        self._over = True
                    nursery.cancel_scope.cancel()
        except* TallyError as group:
            # The peer went away, or our disk failed: the next link begins with what is held.
            _log.warning("the link ends", extra={"peer": self.peer, "reason": lone_error(group)})
        except* Exception:  # noqa: BLE001 - one link must not take the node with it
            _log.exception("a link failed inside the node", extra={"peer": self.peer})
        finally:
            self.ended.set()
            for channel, closer in self._channels.values():
                channel.part()
                closer.part()
            with trio.CancelScope(shield=True):
                await self._stream.aclose()

    async def _read(self) -> None:
        try:
            while True:
                with trio.move_on_after(SILENCE_SECONDS) as waiting:
                    data = await self._stream.receive()
                if waiting.cancelled_caught or not data:
                    _log.info("the peer is gone", extra={"peer": self.peer})
                    return
                pause = self._allowance.take(len(data), 0, 0, trio.current_time())
                if pause:
                    await trio.sleep(pause)
                self.session.feed(data)
                while (message := self.session.next_message()) is not None:
                    await self._handle(message)
                    await self._listen_slowly(message)
        except Rewriting as breach:
            channel, _ = self._channels[breach.append.channel]
            if await channel.repeats(breach.append):
                await self._say_bye(breach)
            else:
                await self._halt(channel, await accusing.rewriting(channel, breach))
        except PeerBreach as breach:
            await self._say_bye(breach)

    async def _listen_slowly(self, message: Message) -> None:
        """Let others have their turn, and a peer that says or asks too much wait."""
        records = batch_count(message.batch) if isinstance(message, Append | Return) else 0
        await trio.sleep(self._allowance.take(0, 1, records, trio.current_time()))
        await self._outbox.answered()

    async def _say_bye(self, breach: PeerBreach) -> None:
        """End the session, and give the peer a moment to hear why."""
        what = "no session"
        if breach.code not in ("version", "fenced"):  # it is nobody's fault
            what = "the peer broke the protocol"
        _log.warning(what, extra={"peer": self.peer, "why": breach.code, "reason": breach})
        self.send(last_word(breach))
        with trio.move_on_after(1):
            await self._outbox.empty()
            await trio.sleep(0.05)

    async def _handle(self, message: Message) -> None:
        match message:
            case Hello():
                self.skew_seconds = message.clock_s - self._clock_s()
                if abs(self.skew_seconds) > SKEW_SECONDS:
                    _log.warning(
                        "the clocks differ; records keep their times, but check both clocks",
                        extra={"peer": self.peer, "seconds": round(self.skew_seconds)},
                    )
                self._hello = message
            case Promoted():
                self.promoted = message
            case Presence():
                await self._introduced(message)
            case Fenced():
                self._owner.fenced(self, message)
            case Channels():
                await self._owner.channels_open(self, message.channels)
            case ProposeTerms() | TermsHeld() | TermsRefused() | Founded():
                await self._owner.handle_terms(self, message)
            case Hearsay():
                self._owner.hearsay(self, message)
            case Accusation():
                await self._owner.accused(self, message)
            case Bye():
                _log.warning(
                    "the peer closed the session",
                    extra={"peer": self.peer, "why": message.code, "reason": message.reason},
                )
                self.close("the peer said bye")
            case Ping():
                pass
            case _:
                await self._handle_in_channel(message)

    async def _introduced(self, message: Presence) -> None:
        """The peer says which process speaks, for the first time or again."""
        if not self._admitted:
            await self._owner.admit(self, message)
            self._admitted, self.presence = True, message
            assert self._hello is not None
            await self._owner.greeted(self, self._hello)
        self.presence = message
        self.presence_heard.set()
        if message.asks:
            self.send(self._owner.presence())

    async def open_channel(self, channel: Channel, closer: Closer) -> None:
        """Begin to speak of an open channel: say what we hold of the peer's log."""
        peer = channel.peer
        await peer.settle()  # an earlier link may have left something on its way to the disk
        if channel.id in self.session.channels or not self.live:
            return  # it was opened, or halted, meanwhile
        self._channels[channel.id] = (channel, closer)
        own_size = channel.signed_size
        self.session.add_channel(channel.id, own_size, peer.state.size)
        size = peer.state.size
        root, signature, cosignature = bytes(32), b"", b""
        if size:
            with channel.store.read() as txn:
                row = peer.head_row(txn, size)
            assert row is not None
            root, signature, cosignature = row.root, row.signature, row.cosignature
        self.send(Holding(channel.id, channel.doubt, own_size, size, root, signature, cosignature))
        if channel.full:
            self._refuse_more(channel, quota_reached(channel.held_bytes))

    def halt_unspoken(self, channel: Channel, reason: str) -> None:
        """Tell the peer that a channel is halted here, which it takes for open."""
        if channel.id not in self.session.channels:
            self.session.add_channel(channel.id, 0, 0)
        self.say(Halt(channel.id, reason[:1000]))

    def say(self, message: Message) -> None:
        """Send an answer if the channel's state still allows it; the next link makes up for it."""
        assert not isinstance(message, OfConnection)
        if type(message) in SENDABLE[self.session.channels[message.channel].state]:
            self.send(message)

    async def _handle_in_channel(self, message: Message) -> None:
        assert not isinstance(message, OfConnection)
        link = self.session.channels[message.channel]
        if link.state is Standing.HALTED and not isinstance(message, Halt):
            return
        if message.channel not in self._channels:
            return  # a halt of what is halted here anyway
        channel, closer = self._channels[message.channel]
        try:
            match message:
                case Holding():
                    await self._confirm(channel, closer, message)
                case Append():
                    await self._take(channel, closer, message)
                case Cosign():
                    channel.take_cosignature(message.size, message.cosignature)
                    self.wake(channel)
                    await self._settle_doubt(channel)
                case Return():
                    await self._recover(channel, closer, message)
                case Full():
                    if not channel.withheld:
                        channel.withheld = plain(message.reason) or "it does not say why"
                        _log.warning(
                            "the peer takes no more of our log",
                            extra=self._named(channel, channel.withheld),
                        )
                case Halt():
                    if channel.id not in self._halted:
                        self._halted.add(channel.id)
                        reason = plain(message.reason)
                        _log.warning(
                            "the peer halted the channel", extra=self._named(channel, reason)
                        )
                        channel.part()
                        await self._owner.halt(channel, f"the peer halted it: {reason}")
                case _ if isinstance(message, InReconciliation):
                    self._owner.reconcile(self, channel, message)
                case _:
                    closer.arrived(message)
                    with trio.move_on_after(SILENCE_SECONDS) as waiting:
                        await self._answering.put(
                            closer, message, self._begin, self._handle_closing
                        )
                    if waiting.cancelled_caught:
                        self.close("the peer says more about checkpoints than can be answered")
        except PeerBreach as breach:
            await self._halt(channel, breach)
        except ArchiveError as error:  # until the next link; other channels go on
            _log.error("a message was not answered", extra=self._named(channel, error))

    async def _handle_closing(self, closer: Closer, message: Message) -> None:
        assert isinstance(message, InClosing)
        try:
            await closer.handle(message, self.say)
        except PeerBreach as breach:
            await self._halt(closer.channel, breach)
        except TallyError as error:
            _log.error("a closing failed", extra=self._named(closer.channel, error))

    def _named(self, channel: Channel, reason: object = None) -> dict[str, object]:
        """What a line of the log says of a channel, and why."""
        said: dict[str, object] = {"channel": channel.id.hex()[:8], "peer": self.peer}
        return said if reason is None else said | {"reason": reason}

    async def _halt(self, channel: Channel, breach: PeerBreach) -> None:
        """A breach in a channel stops that channel and no other."""
        _log.error("the channel halts", extra=self._named(channel, breach))
        channel.part()
        self.say(Halt(channel.id, str(breach)[:1000]))
        await self._owner.halt(channel, str(breach))

    # Our log to the peer

    async def _confirm(self, channel: Channel, closer: Closer, message: Holding) -> None:
        """The peer said what it holds of our log: go on from there, or fetch back what we lost."""
        own = channel.own
        channel.withheld = ""
        await own.settle()
        if message.size:
            try:
                channel.verify_ours(own.head(message.size, message.root), message.signature)
            except ProofError:
                raise await accusing.unsigned_head(channel, message) from None
        if message.own_size < channel.peer.durable_size:
            assert self._nursery is not None
            self._nursery.start_soon(self._give_back, channel, closer, message.own_size)
        self._held[channel.id] = message
        if message.size > self.session.channels[channel.id].own_size:
            _log.warning(
                "the peer holds more of our log than we signed: fetching ours back",
                extra=self._named(channel) | {"there": message.size, "signed": own.signed_size},
            )
            await recovery.set_aside(channel)
            assert self._nursery is not None
            self._nursery.start_soon(self._watch_return, channel)
            return
        if message.size and own.root_at(message.size) != message.root:
            raise await accusing.foreign_head(channel, message)
        await self._go_on(channel, closer)

    async def _go_on(self, channel: Channel, closer: Closer) -> None:
        """Our log is what the peer holds, or longer: sign again."""
        message = self._held[channel.id]
        if message.cosignature and message.size > channel.own.cosigned_size:
            await recovery.adopt(channel, message.size, message.root, message.signature)
            channel.take_cosignature(message.size, message.cosignature)
        if not recovery.may_sign_now(channel, message.doubt):
            _log.error(
                "records may be lost on both sides: nothing is signed until people at both agree"
                " (tally recover --agree)",
                extra=self._named(channel),
            )
            channel.resume()
            return
        if self._is_halted(channel):  # by what we or people learnt while the disk was busy
            return
        if channel.doubt == 2:  # before anything that is in the log unsigned can be signed
            await recovery.begin_epoch(channel)
            await self._owner.set_doubt(channel, 3)
            if self._is_halted(channel):
                return
        channel.go_live()
        channel.certain_at = channel.own.state.size
        await recovery.record_aside(channel)
        channel.resume()
        await closer.catch_up()
        self.wake(channel)
        await self._settle_doubt(channel)

    def _is_halted(self, channel: Channel) -> bool:
        return self.session.channels[channel.id].state is Standing.HALTED

    async def _settle_doubt(self, channel: Channel) -> None:
        """Nothing is doubtful any more once the certain peer's log is here as well, or once the
        peer has co-signed that we went on.
        """
        message = self._held.get(channel.id)
        if not channel.doubt or not channel.live or message is None:
            return
        whole = message.doubt == 0 and channel.peer.durable_size >= message.own_size
        agreed = channel.doubt == 3 and channel.own.cosigned_ahead >= channel.certain_at
        if agreed or (whole and channel.doubt == 1):
            await self._owner.set_doubt(channel, 0)

    def wake(self, channel: Channel) -> None:
        """Our log grew, or the peer may be sent more of it: send what there is."""
        if channel.id in self._sending or not self._may_send(channel):
            return
        if not self._send_recent(*self._channels[channel.id]):
            self._sending.add(channel.id)
            self._begin(self._send_log, *self._channels[channel.id])

    def _may_send(self, channel: Channel) -> bool:
        if not self.live or channel.id not in self._channels or not channel.live:
            return False
        link = self.session.channels[channel.id]
        waits = channel.own.durable_size > link.sent_size and not channel.withheld
        return waits and link.may_append

    def _send_recent(self, channel: Channel, closer: Closer) -> bool:
        """Send a small batch that is at hand: a delta alone waits for no task. Whether it was all
        that may be sent.
        """
        link = self.session.channels[channel.id]
        batch = channel.own.recent(link.sent_size)
        if (
            batch is None
            or not batch.signature
            or len(batch.data) > SMALL_BYTES
            or batch.size > closer.next_head(channel.own, link.sent_size)
            or self._outbox.waiting_bytes
        ):
            return False
        link.own_size = max(link.own_size, batch.size)
        self.send(Append(channel.id, batch.first, batch.data, batch.signature))
        return not self._may_send(channel)

    async def _send_log(self, channel: Channel, closer: Closer) -> None:
        """Send our log's batches that are durable, within the session's window."""
        link = self.session.channels[channel.id]
        await self._outbox.room()
        while self._may_send(channel):
            stop = closer.next_head(channel.own, link.sent_size)
            await read_back(channel.own, link.sent_size, stop, self._named(channel))
            if not self._may_send(channel):  # it may have taken long, and now we sign
                break
            batch = await channel.signed_batch(link.sent_size, stop)
            link.own_size = max(link.own_size, batch.size)
            if self._may_send(channel) and batch.first == link.sent_size:
                self.send(Append(channel.id, batch.first, batch.data, batch.signature))
            await trio.lowlevel.checkpoint()
            await self._outbox.room()
        self._sending.discard(channel.id)

    async def _give_back(self, channel: Channel, closer: Closer, start: int) -> None:
        """Send the peer the records of its own log that it lost, up to each head that counts."""
        peer = channel.peer
        while start < peer.durable_size:
            stop = closer.next_head(peer, start)
            await read_back(peer, start, stop, self._named(channel))
            batch = peer.batch_from(start, stop)
            with channel.store.read() as txn:
                row = peer.head_row(txn, batch.size)
            assert row is not None
            self.say(Return(channel.id, batch.first, batch.data, batch.signature, row.cosignature))
            start = batch.size
            await self._outbox.room()

    async def _recover(self, channel: Channel, closer: Closer, message: Return) -> None:
        """Take records of our own log back from the peer, checking our signature on them."""
        await recovery.take_back(channel, message)
        if channel.own.state.size >= self._held[channel.id].size:
            if channel.own.root_at(self._held[channel.id].size) != self._held[channel.id].root:
                raise PeerBreach("bad-return", "the peer returned another log than it holds")
            self.session.recovered(channel.id)
            await self._go_on(channel, closer)

    async def _watch_return(self, channel: Channel) -> None:
        """A peer that says it holds our records and does not return them must not block us."""
        link = self.session.channels[channel.id]
        while link.state is Standing.RECOVERING:
            before = channel.own.durable_size
            await trio.sleep(RETURN_SECONDS)
            if link.state is Standing.RECOVERING and channel.own.durable_size == before:
                self.close("the peer does not return our records")

    # The peer's log to us

    async def _take(self, channel: Channel, closer: Closer, message: Append) -> None:
        if channel.full:
            self._refuse_more(channel, quota_reached(channel.held_bytes))
        if channel.id in self._full:
            return  # what was under way, until a new link begins with what is held
        await self._settle_some(batch_count(message.batch))
        if self._is_halted(channel):
            return

        def then(size: int, cosignature: bytes) -> None:
            self.say(Cosign(channel.id, size, cosignature))

        try:
            ticket = channel.receive(message, then)
        except ArchiveError as error:
            _log.error("what the peer sent cannot be checked", extra=self._named(channel, error))
            self._refuse_more(channel, "what is needed to check it cannot be read here")
            return
        self._unanswered.append((ticket, batch_count(message.batch)))
        if CHECKPOINT_MARK in message.batch:
            await ticket.wait()
            await closer.catch_up()
        if channel.doubt:
            await ticket.wait()
            await self._settle_doubt(channel)

    async def _settle_some(self, more: int) -> None:
        """Wait until the peer's batches in flight are few and small enough for another one."""
        flight = self._unanswered
        while flight and (
            len(flight) >= APPENDS_IN_FLIGHT_MAX
            or sum(count for _, count in flight) + more > RECORDS_IN_FLIGHT_MAX
        ):
            ticket, _ = flight.pop(0)
            await ticket.wait()

    def _refuse_more(self, channel: Channel, reason: str) -> None:
        """Say once why nothing more of the peer's log is taken on this link; nothing is halted."""
        if channel.id not in self._full:
            self._full.add(channel.id)
            _log.warning("the peer's log is not taken further", extra=self._named(channel, reason))
            self.say(Full(channel.id, reason))
