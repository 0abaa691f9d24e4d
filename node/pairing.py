"""Pairing over a real connection: the joiner's side and the inviter's side of one exchange.

The inviter stores the joiner, and marks the code used, in one transaction before it says welcome;
the joiner stores the inviter when it has heard that. If the welcome gets lost, the same joiner may
say the same code again and is welcomed again, so neither side stays half paired.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

import trio

from tallystick.node.errors import PairingError, PeerUnreachable
from tallystick.node.transport.tls import PeerStream, certificate_key, dial, pairing_context
from tallystick.protocol.errors import FormatError, InputError, PeerBreach, ProofError
from tallystick.protocol.framing import FrameReader, frame
from tallystick.protocol.keys import Identity
from tallystick.protocol.pairing import (
    Challenge,
    Invite,
    Join,
    Message,
    PeerIdentity,
    Refused,
    StoredInvite,
    Welcome,
    build_join,
    build_welcome,
    check_certificate_key,
    decode_pairing,
    encode_pairing,
    invite_id,
    parse_invite,
    secret_digest,
    verify_join,
    verify_welcome,
)

EXCHANGE_SECONDS = 10
FRAME_BYTES_MAX = 16 * 1024
_NEW_CODE = "Ask your counterparty for a new code: tally invite"
_ADVICE = {
    "self": "The code is for your counterparty's node",
    "name-taken": "Another node of your name is paired there: sort that out with your counterparty",
    "wrong-name": "Use the code at the node of that name, or ask for one of your own",
    "malformed": "Update the older of the two nodes",
}  # for the other refusals a new code helps

# Two joiners with one code at the same moment: the second must see that the first used it.
_redeeming = trio.Lock()

_log = logging.getLogger("tallystick.pairing")


class PairingBook(Protocol):
    """Where the inviter keeps invites and peers."""

    async def find_invite(self, id: bytes) -> StoredInvite | None:
        """The invite of an id."""

    async def redeem(self, invite: StoredInvite, peer: PeerIdentity) -> None:
        """Store the peer and that it used the invite, durably and together."""

    def knows_other(self, peer: PeerIdentity, replacing: str = "") -> bool:
        """Whether another party of that name is paired already, but for the one to replace."""


def own_identity(identity: Identity, certificate: bytes, address: str) -> PeerIdentity:
    """What we hand over."""
    return PeerIdentity(
        identity.name,
        identity.log_key,
        identity.cosigner_key,
        identity.transport_key,
        certificate,
        address,
    )


def new_invite(
    identity: Identity,
    address: str,
    lifetime_seconds: int,
    now_s: float,
    secret: bytes,
    replaces: str = "",
) -> tuple[Invite, StoredInvite]:
    """An invite to give away, and what to keep of it. With `replaces` it is for the peer of that
    name, which lost its keys.
    """
    expires_at_s = int(now_s) + lifetime_seconds
    invite = Invite(
        identity.name,
        identity.log_key,
        identity.cosigner_key,
        identity.transport_key,
        address,
        secret,
        expires_at_s,
    )
    stored = StoredInvite(invite_id(secret), secret_digest(secret), expires_at_s, b"", replaces)
    return invite, stored


class _Conversation:
    """Messages over a stream, with bounded frames."""

    def __init__(self, stream: PeerStream) -> None:
        self._stream = stream
        self._reader = FrameReader(FRAME_BYTES_MAX)

    async def say(self, message: Message) -> None:
        await self._stream.send(frame(encode_pairing(message)))

    async def hear(self) -> Message:
        while (body := self._reader.next_body()) is None:
            data = await self._stream.receive()
            if not data:
                raise PeerUnreachable("the other node closed the connection")
            self._reader.feed(data)
        return decode_pairing(body)


async def join(code: str, identity: Identity, certificate: bytes, address: str) -> PeerIdentity:
    """Pair with the node that made the code; its identity, for the caller to store."""
    invite = parse_invite(code)
    if invite.name == identity.name:
        raise InputError("this code is this node's own", "It is for your counterparty's node")
    stream = await dial(invite.address, pairing_context(), invite.transport_key, EXCHANGE_SECONDS)
    own = own_identity(identity, certificate, address)
    try:
        with trio.fail_after(EXCHANGE_SECONDS):
            talk = _Conversation(stream)
            challenge = _challenge(await talk.hear())
            await talk.say(build_join(identity, own, invite, challenge))
            answer = _welcome(await talk.hear(), invite.name)
        peer = verify_welcome(answer, invite, own, challenge)
        check_certificate_key(peer, certificate_key(peer.transport_certificate))
    except trio.TooSlowError:
        raise PairingError(
            f"{invite.name} did not finish the pairing in {EXCHANGE_SECONDS} seconds",
            "Nothing is stored here; run the same tally join again",
        ) from None
    except (FormatError, ProofError, PeerBreach, PeerUnreachable) as error:
        raise PairingError(
            f"the pairing with {invite.name} did not come about: {error.message}",
            "Nothing is stored here; run the same tally join again",
        ) from None
    else:
        return peer
    finally:
        await stream.aclose()


def _challenge(message: Message) -> Challenge:
    if not isinstance(message, Challenge):
        raise PeerBreach("out-of-order", "the inviter did not begin with a challenge")
    return message


def _welcome(message: Message, inviter: str) -> Welcome:
    if isinstance(message, Refused):
        raise PairingError(
            f"{inviter} refused the pairing: {message.text}", _ADVICE.get(message.code, _NEW_CODE)
        )
    if not isinstance(message, Welcome):
        raise PeerBreach("out-of-order", "the inviter answered neither yes nor no")
    return message


async def serve_join(
    stream: PeerStream,
    identity: Identity,
    certificate: bytes,
    address: str,
    book: PairingBook,
    now_s: Callable[[], float],
) -> PeerIdentity | None:
    """The inviter's side; the new peer, or None if it was refused. Nothing half is stored."""
    own = own_identity(identity, certificate, address)
    talk = _Conversation(stream)
    challenge = Challenge(secrets.token_bytes(32))
    message: Message | None = None
    answer: Welcome | Refused = Refused("malformed", "expected a join")
    with trio.move_on_after(EXCHANGE_SECONDS):
        try:
            await talk.say(challenge)
            message = await talk.hear()
        except (FormatError, PeerBreach) as error:
            answer = Refused("malformed", error.message[:500])
        except PeerUnreachable:
            return None
    # Not under the time limit: what is stored must be told to the caller.
    if isinstance(message, Join):
        async with _redeeming:
            verdict = await _judge(message, challenge, identity, book, now_s())
            if isinstance(verdict, StoredInvite):
                await book.redeem(verdict, message.identity)
                answer = build_welcome(identity, own, message.identity, challenge)
            else:
                answer = verdict
    with trio.move_on_after(EXCHANGE_SECONDS):
        # A joiner that did not hear the welcome says its code again.
        with suppress(PeerUnreachable):
            await talk.say(answer)
    if isinstance(message, Join) and isinstance(answer, Welcome):
        return message.identity
    if isinstance(answer, Refused):
        _log.info("a pairing was refused", extra={"why": answer.code, "reason": answer.text})
    return None


async def _judge(
    message: Join, challenge: Challenge, identity: Identity, book: PairingBook, now_s: float
) -> Refused | StoredInvite:
    """The invite that the joiner may use, or why not."""
    stored = await book.find_invite(message.invite_id)
    if stored is None:
        return Refused("wrong-secret", "the code is not one of this node's")
    who = message.identity
    try:
        verify_join(message, stored, challenge, identity.transport_key)
        check_certificate_key(who, certificate_key(who.transport_certificate))
    except FormatError as error:
        return Refused("malformed", error.message[:500])
    except ProofError as error:
        return Refused("wrong-secret", f"the proof does not hold: {error.message}"[:500])
    if stored.used_by and stored.used_by != who.transport_key:
        return Refused("used", "the code was used already; a code works once")
    if not stored.used_by and now_s > stored.expires_at_s:
        when = datetime.fromtimestamp(stored.expires_at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return Refused("expired", f"the code expired at {when}")
    if who.name == identity.name:
        return Refused("self", "a node cannot pair with itself")
    if stored.replaces and who.name != stored.replaces:
        return Refused("wrong-name", f"the code is for {stored.replaces}")
    if book.knows_other(who, stored.replaces):
        return Refused("name-taken", f"another node is paired as {who.name}")
    return stored
