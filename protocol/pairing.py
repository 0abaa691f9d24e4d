"""Pairing: how two nodes that never met exchange keys, once, by a code that one hands the other.

The inviter's code carries its keys, its address and a secret that works once. The joiner dials with
the inviter's transport key pinned, and in one exchange proves that it knows the secret and owns the
three keys that it hands over; the inviter proves the same of its own. Both sides then show the
same words, made of all six keys, which people can compare by phone.

    joiner                              inviter
             <- Challenge (random)
    Join ->     (identity, proof of the secret, a signature by each of its keys)
             <- Welcome (identity, a signature by each of its keys)  or  Refused (code, text)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta, Struct

from tallystick.protocol.errors import FormatError, InputError, PeerBreach, ProofError
from tallystick.protocol.keys import Identity, check_party_name, verify_signature
from tallystick.protocol.records import Digest, Key
from tallystick.protocol.words import WORDS

PREFIX = "tally1-"
SECRET_SIZE = 16
WORD_COUNT = 8  # 64 bits: more than can be searched while a code is valid

Signature64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Name = Annotated[str, Meta(min_length=1, max_length=253)]
# Neither may move a terminal's cursor when it is shown.
Address = Annotated[str, Meta(max_length=300, pattern=r"\A[^\x00-\x20\x7f-\x9f]*\Z")]
Reason = Annotated[str, Meta(max_length=500, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]


class Keys(Protocol):
    """What the words and the proofs are about."""

    @property
    def name(self) -> str:
        """The party's name."""

    @property
    def log_key(self) -> bytes:
        """Public key of its log."""

    @property
    def cosigner_key(self) -> bytes:
        """Public key of its cosigner."""

    @property
    def transport_key(self) -> bytes:
        """Public key of its transport."""


class PeerIdentity(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What a party hands over: its name, its keys, its TLS certificate (DER), its address."""

    name: Name
    log_key: Key
    cosigner_key: Key
    transport_key: Key
    transport_certificate: Annotated[bytes, Meta(max_length=4096)]
    address: Address


class Invite(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What a code says."""

    name: Name
    log_key: Key
    cosigner_key: Key
    transport_key: Key
    address: Address
    secret: Annotated[bytes, Meta(min_length=SECRET_SIZE, max_length=SECRET_SIZE)]
    expires_at_s: Annotated[int, Meta(ge=0, le=2**63 - 1)]

    def encode(self) -> str:
        """The code: one line that survives e-mail, with a checksum against typing errors."""
        body = _encode(self)
        return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")


class StoredInvite(Struct, array_like=True, frozen=True):
    """What the inviter keeps: not the secret, only what checks it."""

    id: bytes
    secret_digest: bytes
    expires_at_s: int
    used_by: bytes  # the transport key of who used it, empty before
    replaces: str = ""  # the peer that lost its keys, whose name the joiner has


class Challenge(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=1):
    """The inviter's random bytes, so that nothing of an earlier exchange can be used again."""

    random: Digest


class Join(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=2):
    """The joiner's identity and its proofs."""

    invite_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    identity: PeerIdentity
    secret_proof: Digest
    signatures: Annotated[tuple[Signature64, ...], Meta(min_length=3, max_length=3)]


class Welcome(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=3):
    """The inviter's identity and its proofs; the joiner is stored."""

    identity: PeerIdentity
    signatures: Annotated[tuple[Signature64, ...], Meta(min_length=3, max_length=3)]


class Refused(Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=4):
    """The inviter stored nothing; why."""

    code: Annotated[str, Meta(max_length=64)]
    text: Reason


Message = Challenge | Join | Welcome | Refused

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
_decode_invite = msgspec.msgpack.Decoder(Invite).decode
_decode_identity = msgspec.msgpack.Decoder(PeerIdentity).decode


def encode_pairing(message: Message) -> bytes:
    """A message's body."""
    return _encode(message)


def decode_pairing(body: bytes) -> Message:
    """The message of a body; `PeerBreach` if it is none, or not in its canonical form."""
    try:
        message: Message = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerBreach("malformed", f"a malformed pairing message: {error}") from None
    if _encode(message) != body:
        raise PeerBreach("malformed", "a pairing message that is not in canonical form")
    return message


def encode_identity(identity: PeerIdentity) -> bytes:
    """A peer's identity as it is stored."""
    return _encode(identity)


def decode_identity(data: bytes) -> PeerIdentity:
    """The identity of stored bytes; `FormatError` if they are damaged."""
    try:
        return _decode_identity(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"not a peer's identity: {error}") from None


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"tallystick/v1 invite checksum" + body).digest()[:4]


def parse_invite(code: str) -> Invite:
    """The invite of a code, however it was wrapped; `InputError` says what is wrong with it."""
    text = "".join(code.split())
    if not text.startswith(PREFIX):
        if re.match(r"tally[0-9]+-", text):
            raise InputError(
                f"the pairing code is of another version: {text.partition('-')[0]!r}",
                "Update the older of the two nodes",
            )
        raise InputError(
            f"this is not a pairing code; it begins with {PREFIX}", "Ask for a tally invite"
        )
    text = text.removeprefix(PREFIX)
    strange = re.search(r"[^A-Za-z0-9_-]", text)
    if strange:
        raise InputError(
            f"the pairing code is mistyped: {strange[0]!r} does not occur in codes",
            "Copy it whole, again",
        )
    if len(text) % 4 == 1:
        raise _unreadable(b"")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    body = data[:-4]
    if _checksum(body) != data[-4:]:
        raise _unreadable(body)
    try:
        invite = _decode_invite(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"the pairing code cannot be read: {error}") from None
    check_party_name(invite.name)
    return invite


def _unreadable(body: bytes) -> InputError:
    """What is wrong with a code whose checksum does not fit: its end is gone, or a letter."""
    try:
        _decode_invite(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if "truncated" in str(error):
            return InputError("the pairing code is cut: its end is missing", "Copy it whole, again")
    return InputError(
        "the pairing code is mistyped: its checksum does not fit", "Copy it whole, again"
    )


def invite_id(secret: bytes) -> bytes:
    """The name by which an invite is found, which does not tell the secret."""
    return hashlib.sha256(b"tallystick/v1 invite id" + secret).digest()[:16]


def secret_digest(secret: bytes) -> bytes:
    """What the inviter keeps of the secret, and the key of the joiner's proof."""
    return hashlib.sha256(b"tallystick/v1 invite secret" + secret).digest()


def _transcript(
    label: str, challenge: bytes, inviter_key: bytes, *identities: PeerIdentity
) -> bytes:
    parts = [challenge, inviter_key, *(_encode(identity) for identity in identities)]
    return hashlib.sha256(f"tallystick/v1 pairing {label}".encode() + b"".join(parts)).digest()


def _sign(identity: Identity, transcript: bytes) -> tuple[bytes, bytes, bytes]:
    log, cosigner, transport = (
        key.sign(transcript).signature
        for key in (identity.log, identity.cosigner, identity.transport)
    )
    return log, cosigner, transport


def _verify(who: PeerIdentity, transcript: bytes, signatures: tuple[bytes, ...]) -> None:
    keys = (who.log_key, who.cosigner_key, who.transport_key)
    for key, signature, job in zip(keys, signatures, ("log", "cosigner", "transport"), strict=True):
        verify_signature(key, transcript, signature, f"{who.name}'s {job} key")


def build_join(identity: Identity, own: PeerIdentity, invite: Invite, challenge: Challenge) -> Join:
    """The joiner's message."""
    transcript = _transcript("join", challenge.random, invite.transport_key, own)
    proof = hmac.digest(secret_digest(invite.secret), transcript, "sha256")
    return Join(invite_id(invite.secret), own, proof, _sign(identity, transcript))


def verify_join(message: Join, stored: StoredInvite, challenge: Challenge, own_key: bytes) -> None:
    """Return if the joiner knows the secret and owns its keys; else `ProofError`."""
    who = message.identity
    try:
        check_party_name(who.name)
    except InputError as error:
        raise ProofError(error.message) from None
    transcript = _transcript("join", challenge.random, own_key, who)
    expected = hmac.digest(stored.secret_digest, transcript, "sha256")
    if not hmac.compare_digest(expected, message.secret_proof):
        raise ProofError("the secret is wrong")
    _verify(who, transcript, message.signatures)


def build_welcome(
    identity: Identity, own: PeerIdentity, joiner: PeerIdentity, challenge: Challenge
) -> Welcome:
    """The inviter's answer."""
    transcript = _transcript("welcome", challenge.random, own.transport_key, joiner, own)
    return Welcome(own, _sign(identity, transcript))


def verify_welcome(
    message: Welcome, invite: Invite, joiner: PeerIdentity, challenge: Challenge
) -> PeerIdentity:
    """The inviter's identity, if it is the one that the code names; else `ProofError`."""
    who = message.identity
    for field in ("name", "log_key", "cosigner_key", "transport_key"):
        if getattr(who, field) != getattr(invite, field):
            raise ProofError(f"the node that answered has another {field} than the code")
    transcript = _transcript("welcome", challenge.random, who.transport_key, joiner, who)
    _verify(who, transcript, message.signatures)
    return who


def comparison_words(a: Keys, b: Keys) -> list[str]:
    """The words that both sides show, the same at both: made of both names and all six keys."""
    first, second = sorted((a, b), key=lambda keys: keys.name)
    digest = hashlib.sha256(b"tallystick/v1 comparison words")
    for who in (first, second):
        digest.update(who.name.encode() + b"\0")
        digest.update(who.log_key + who.cosigner_key + who.transport_key)
    return [WORDS[byte] for byte in digest.digest()[:WORD_COUNT]]


def check_certificate_key(identity: PeerIdentity, key: bytes) -> None:
    """Refuse an identity whose certificate is of another key than it says."""
    if identity.transport_key != key:
        raise FormatError("the certificate is of another key than the identity's")
