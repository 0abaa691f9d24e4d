"""One connection between two nodes, without any I/O: bytes and intents in, bytes and messages out.

The pump feeds what arrived and gets validated messages; it asks `send` for the bytes of a
message. Both consult the tables of `states.py`, so an out-of-place message is the peer's breach
and an out-of-place intent is our own bug. What each log's sizes allow (appends in a row, a bounded
number in flight, co-signatures only of what was sent) is kept here too, and nothing else: whether
a record is valid or a signature holds is decided by whoever holds the logs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tallystick.protocol.errors import FormatError, PeerBreach
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.messages import (
    FRAME_BYTES_MAX,
    PROTOCOL_VERSION,
    Append,
    Bye,
    Channels,
    Cosign,
    Fenced,
    Halt,
    Hello,
    Holding,
    Message,
    OfConnection,
    Return,
    decode_message,
    encode_message,
)
from tallystick.protocol.records import batch_count
from tallystick.protocol.states import CHANNEL, CONNECTION, SENDABLE, Channel, Connection

APPENDS_IN_FLIGHT_MAX = 5


class Rewriting(PeerBreach):
    """The peer sends other records for what it sent before; `append` may convict it."""

    def __init__(self, append: Append, received_size: int) -> None:
        super().__init__(
            "rewriting",
            f"the peer sent records from {append.first} again, of which {received_size} are here",
            "An honest peer goes on from what its counterparty holds",
        )
        self.append = append


@dataclass(slots=True)
class ChannelLink:
    """A channel in one session: how far each log has travelled.

    `own_size` is what we signed of our log, `sent_size` what the peer was sent, `cosigned_size`
    what it co-signed in this session; `received_size` is the peer's log here.
    """

    own_size: int
    received_size: int
    state: Channel = Channel.CONFIRMING
    sent_size: int = 0
    cosigned_size: int = 0
    in_flight: list[int] = field(default_factory=list)

    @property
    def may_append(self) -> bool:
        """Whether another batch may be sent now."""
        return self.state is Channel.OPEN and len(self.in_flight) < APPENDS_IN_FLIGHT_MAX


class Session:
    """The state of one connection. `channels` are those that may be spoken of in it."""

    def __init__(self, party: str, peer: str) -> None:
        self.party = party
        self.peer = peer
        self.state = Connection.GREETING
        self.channels: dict[bytes, ChannelLink] = {}
        self._listed = False  # whether the peer said which channels are open
        self._reader = FrameReader(FRAME_BYTES_MAX)

    def add_channel(self, channel_id: bytes, own_size: int, received_size: int) -> None:
        """A channel of these two parties that is open, with both logs' sizes here."""
        self.channels[channel_id] = ChannelLink(own_size, received_size)

    def feed(self, data: bytes) -> None:
        """Take bytes that arrived; `PeerBreach` ends the session, and then nothing is heard."""
        if self.state is Connection.CLOSED:
            return
        try:
            self._reader.feed(data)
        except FormatError as error:
            raise PeerBreach("malformed", f"the peer sent a bad frame: {error.message}") from None

    def next_message(self) -> Message | None:
        """The next whole message, or None until more bytes came; `PeerBreach` ends the session.

        One at a time: what a message brings about (a new channel) may allow the next one.
        """
        try:
            body = self._reader.next_body()
        except FormatError as error:
            raise PeerBreach("malformed", f"the peer sent a bad frame: {error.message}") from None
        if body is None:
            return None
        message = decode_message(body)
        self._accept(message)
        return message

    def send(self, message: Message) -> bytes:
        """The frame of a message that may be sent now."""
        if isinstance(message, OfConnection):
            if isinstance(message, Bye | Fenced):
                self.state = Connection.CLOSED
            return frame(encode_message(message))
        link = self.channels[message.channel]
        assert type(message) in SENDABLE[link.state], (type(message), link.state)
        match message:
            case Append():
                assert message.first == link.sent_size and link.may_append
                link.sent_size += batch_count(message.batch)
                link.in_flight.append(link.sent_size)
            case Halt():
                link.state = Channel.HALTED
            case _:
                pass
        return frame(encode_message(message))

    def _accept(self, message: Message) -> None:
        kind = type(message)
        if isinstance(message, OfConnection):
            following = CONNECTION.get((self.state, kind))
            if following is None:
                raise PeerBreach(
                    "out-of-order", f"the peer sent {kind.__name__} while {self.state.value}"
                )
            if isinstance(message, Hello):
                self._check_hello(message)
            if isinstance(message, Channels):
                if self._listed:
                    raise PeerBreach("out-of-order", "the peer listed its channels twice")
                self._listed = True
            self.state = following
            return
        if self.state is not Connection.LIVE:
            raise PeerBreach("out-of-order", f"the peer sent {kind.__name__} before its hello")
        link = self.channels.get(message.channel)
        if link is None:
            raise PeerBreach("wrong-channel", "the peer spoke of a channel that it is not part of")
        step = CHANNEL.get((link.state, kind))
        if step is None:
            raise PeerBreach(
                "out-of-order", f"the peer sent {kind.__name__} while {link.state.value}"
            )
        was_halted = link.state is Channel.HALTED
        link.state = step
        if not was_halted:
            self._track(link, message)

    def _check_hello(self, hello: Hello) -> None:
        if hello.version != PROTOCOL_VERSION:
            # In words that are right at both ends: the peer reads them as well.
            older = self.peer if hello.version < PROTOCOL_VERSION else self.party
            raise PeerBreach(
                "version",
                f"{self.party} speaks version {PROTOCOL_VERSION} of the protocol,"
                f" {self.peer} version {hello.version}",
                f"Update the node of {older}; nothing is exchanged or lost until then",
            )
        if hello.party != self.peer:
            raise PeerBreach("wrong-party", f"{self.peer} introduced itself as {hello.party!r}")

    def _track(self, link: ChannelLink, message: Message) -> None:
        match message:
            case Append():
                if message.first < link.received_size:
                    raise Rewriting(message, link.received_size)
                if message.first != link.received_size:
                    raise PeerBreach(
                        "out-of-order",
                        f"the peer sent records from {message.first},"
                        f" expected from {link.received_size}",
                    )
                link.received_size += batch_count(message.batch)
            case Holding():
                if message.size > link.own_size:
                    link.state = Channel.RECOVERING
                else:
                    link.sent_size = link.cosigned_size = message.size
            case Cosign():
                flight = link.in_flight
                if message.size not in flight:
                    raise PeerBreach(
                        "out-of-order", f"the peer co-signed size {message.size}, never sent"
                    )
                while flight and flight[0] <= message.size:
                    flight.pop(0)
                link.cosigned_size = message.size
            case Return():
                if message.first != link.own_size:
                    raise PeerBreach(
                        "out-of-order",
                        f"the peer returned records from {message.first},"
                        f" expected from {link.own_size}",
                    )
                link.own_size += batch_count(message.batch)
            case _:
                pass

    def recovered(self, channel_id: bytes) -> None:
        """Our log is back to what the peer holds: go on from there."""
        link = self.channels[channel_id]
        link.sent_size = link.cosigned_size = link.own_size
        link.state = Channel.OPEN
