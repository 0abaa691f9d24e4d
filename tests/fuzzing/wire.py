"""Targets for what arrives on sockets: frames, session and pairing messages, requests."""

from __future__ import annotations

import io
from collections.abc import Iterator

import builders
import msgpack

from fuzzing.contract import attempt, text_of
from tallystick.node.rpc import decode_answer, decode_parameters
from tallystick.node.transport.tls import certificate_key, parse_address
from tallystick.protocol.errors import FormatError, InputError, PeerBreach, ProofError, TallyError
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.messages import decode_message, encode_message
from tallystick.protocol.pairing import (
    Challenge,
    Invite,
    Join,
    StoredInvite,
    Welcome,
    decode_pairing,
    encode_pairing,
    invite_id,
    parse_invite,
    secret_digest,
    verify_join,
    verify_welcome,
)
from tallystick.protocol.session import Session

FRAME_MAX = 1000
CHANNEL = builders.busy_channel()
OWN_SIZE, RECEIVED_SIZE = 40, 7
SECRET = bytes(range(16))
CHALLENGE = Challenge(bytes(32))
INVITE = Invite(
    CHANNEL.provider.name,
    CHANNEL.provider.log_key,
    CHANNEL.provider.cosigner_key,
    CHANNEL.provider.transport_key,
    "192.0.2.1:7450",
    SECRET,
    1_800_000_000,
)


def _chunks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def frames(data: bytes) -> None:
    """The first byte is the size of the chunks in which the rest arrives."""
    reader = FrameReader(FRAME_MAX)
    bodies: list[bytes] = []
    fed = b""
    try:
        for chunk in _chunks(data[1:], data[0] + 1 if data else 1):
            fed += chunk
            reader.feed(chunk)
            while (body := reader.next_body()) is not None:
                assert 0 < len(body) <= FRAME_MAX
                bodies.append(body)
            assert reader.pending_bytes < FRAME_MAX + 4
    except FormatError:
        assert not reader.pending_bytes
        assert fed.startswith(b"".join(map(frame, bodies)))
    else:
        taken = b"".join(map(frame, bodies))
        assert fed.startswith(taken)
        assert reader.pending_bytes == len(fed) - len(taken)


def messages(data: bytes) -> None:
    """A frame's body of a session."""
    message = attempt(PeerBreach, decode_message, data)
    if message is not None:
        assert encode_message(message) == data


def _framed(data: bytes) -> bytes:
    """Each MessagePack value in a frame of its own, and what follows the last in another."""
    unpacker = msgpack.Unpacker(io.BytesIO(data), max_buffer_size=len(data) or 1)
    framed, at = bytearray(), 0
    try:
        while at < len(data):
            unpacker.skip()
            framed += frame(data[at : unpacker.tell()])
            at = unpacker.tell()
    except (ValueError, msgpack.UnpackException):
        framed += frame(data[at:])
    return bytes(framed)


def session(data: bytes) -> None:
    """A peer's whole side of a session, in which one batch of ours is in flight.

    The first byte is the size of the chunks; zero: the rest is put into frames here.
    """
    peer = Session("acme.example", "beta.example")
    peer.add_channel(CHANNEL.id, OWN_SIZE, RECEIVED_SIZE)
    link = peer.channels[CHANNEL.id]
    link.sent_size = OWN_SIZE
    link.in_flight.append(OWN_SIZE)
    raw = bool(data and data[0])
    stream = data[1:] if raw else _framed(data[1:])
    try:
        for chunk in _chunks(stream, data[0] if raw else 997):
            peer.feed(chunk)
            while peer.next_message() is not None:
                assert link.received_size >= RECEIVED_SIZE
                assert link.own_size >= OWN_SIZE
                assert 0 <= link.cosigned_size <= link.own_size
    except PeerBreach as error:
        assert error.code
        str(error).encode()


def pairing(data: bytes) -> None:
    """A pairing message, and what either side makes of it."""
    message = attempt(PeerBreach, decode_pairing, data)
    if message is None:
        return
    assert encode_pairing(message) == data
    own = CHANNEL.provider.transport_key
    if isinstance(message, Join):
        stored = StoredInvite(invite_id(SECRET), secret_digest(SECRET), 2**40, b"")
        attempt(ProofError, verify_join, message, stored, CHALLENGE, own)
        attempt(FormatError, certificate_key, message.identity.transport_certificate)
    elif isinstance(message, Welcome):
        attempt(ProofError, verify_welcome, message, INVITE, message.identity, CHALLENGE)


def certificates(data: bytes) -> None:
    """The certificate that a party hands over in pairing."""
    key = attempt(FormatError, certificate_key, data)
    assert key is None or len(key) == 32


def invites(data: bytes) -> None:
    """A code that a person pasted."""
    invite = attempt(InputError, parse_invite, text_of(data))
    if invite is not None:
        assert parse_invite(invite.encode()) == invite


def requests(data: bytes) -> None:
    """A request's and an answer's body on the node's own socket."""
    attempt(FormatError, decode_parameters, data)
    attempt(FormatError, decode_answer, 200, data)
    attempt(TallyError, decode_answer, 500, data)


def addresses(data: bytes) -> None:
    """Where a peer says that it listens."""
    found = attempt(InputError, parse_address, text_of(data))
    assert found is None or 0 <= found[1] <= 65535
