"""A party's keys: Ed25519 keys from one seed, a separate key for each separate job.

`log` signs heads and checkpoints, `cosigner` co-signs the peer's heads, `transport` authenticates
TLS. `witness` co-signs heads of strangers' logs: had it the cosigner's key, its line on a head of a
channel of ours would read as the receipt of a peer that holds every record.

A key's public form is a C2SP verifier key, `name+hash+base64(type‖key)` (c2sp.org/signed-note); the
hash names the key in a note's signature lines.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tallystick.protocol.errors import FormatError, InputError, ProofError
from tallystick.protocol.records import Job

KeyJob = Job | Literal["witness"]  # `Job` are those that records name

SEED_SIZE = 32
ED25519_NOTE = 0x01  # signature type of a log's key (c2sp.org/signed-note)
KEYS_MAX = 256  # rotations that one seed can serve, for each job
ED25519_COSIGNATURE = 0x04  # signature type of a cosigner's key (c2sp.org/tlog-cosignature)

_PARTY_NAME = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)


def check_party_name(name: str) -> str:
    """The name itself, if it is like a domain in lower case; otherwise `InputError`."""
    if len(name) > 253 or not _PARTY_NAME.fullmatch(name):
        raise InputError(
            f"the party name {name!r} is not like a domain",
            "Use lower-case letters, digits, hyphens and dots, as in acme.example",
        )
    return name


def derive_key(seed: bytes, job: KeyJob, number: int = 0) -> SigningKey:
    """The key for one job: HKDF-Expand (RFC 5869) with HMAC-SHA-256 and the job as its label.

    A key that follows another by rotation has its number in the label too.
    """
    if len(seed) != SEED_SIZE:
        raise FormatError(f"a seed is {SEED_SIZE} bytes, not {len(seed)}")
    label = f"tallystick/v1 key {job}" + (f" {number}" if number else "")
    return SigningKey(hmac.digest(seed, label.encode() + b"\x01", "sha256"))


def witness_name(party: str) -> str:
    """The name of the key by which a party is a witness."""
    return f"{party}/witness"


def origin(party: str, channel_id: bytes) -> str:
    """The origin of a party's log in a channel, which is also its log key's name."""
    return f"{party}/{channel_id.hex()}"


def key_id(name: str, kind: int, key: bytes) -> bytes:
    """The four bytes that name a key in signature lines (c2sp.org/signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]


@dataclass(frozen=True, slots=True)
class Vkey:
    """A verifier key: its name, its signature type and the 32 bytes of the public key."""

    name: str
    kind: int
    key: bytes

    @property
    def id(self) -> bytes:
        """The key's four-byte id."""
        return key_id(self.name, self.kind, self.key)

    def __str__(self) -> str:
        material = base64.b64encode(bytes([self.kind]) + self.key).decode()
        return f"{self.name}+{self.id.hex()}+{material}"


def parse_vkey(text: str) -> Vkey:
    """The verifier key that this text shows; `FormatError` unless it is exactly its own text."""
    parts = text.split("+", 2)
    try:
        material = base64.b64decode(parts[2], validate=True)
        vkey = Vkey(parts[0], material[0], material[1:])
        canonical = str(vkey)
    except (IndexError, ValueError):
        raise FormatError(f"not a verifier key: {text!r}", "It reads name+hash+base64") from None
    if len(vkey.key) != 32 or canonical != text or not vkey.name or " " in vkey.name:
        raise FormatError(f"not a verifier key: {text!r}", "Its parts do not belong together")
    return vkey


@dataclass(frozen=True, slots=True)
class Identity:
    """A party's name with its public keys; `signer` gives the private ones, by job and number.

    Number 0 is the key that pairing exchanges and terms name; others follow it by rotation.
    """

    name: str
    log_key: bytes
    cosigner_key: bytes
    transport_key: bytes
    signer: Callable[[KeyJob, int], SigningKey] = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Identity:
        """The identity that a party's seed stands for."""
        signer = lru_cache(maxsize=4 * KEYS_MAX)(partial(derive_key, seed))
        return cls(
            check_party_name(name),
            bytes(signer("log", 0).verify_key),
            bytes(signer("cosigner", 0).verify_key),
            bytes(signer("transport", 0).verify_key),
            signer,
        )

    def number_of(self, job: Job, key: bytes) -> int:
        """The number of one of this party's public keys; `FormatError` if it is not ours."""
        for number in range(KEYS_MAX):
            if bytes(self.signer(job, number).verify_key) == key:
                return number
        raise FormatError(f"{key.hex()} is not a {job} key of {self.name}")

    def signer_of(self, job: Job, key: bytes) -> SigningKey:
        """The private key of one of this party's public keys; `FormatError` if it is not ours."""
        return self.signer(job, self.number_of(job, key))

    @property
    def log(self) -> SigningKey:
        """The log's first private key."""
        return self.signer("log", 0)

    @property
    def cosigner(self) -> SigningKey:
        """The cosigner's first private key."""
        return self.signer("cosigner", 0)

    @property
    def witness(self) -> SigningKey:
        """The witness's private key; there is one."""
        return self.signer("witness", 0)

    @property
    def transport(self) -> SigningKey:
        """The transport's first private key."""
        return self.signer("transport", 0)


@lru_cache(maxsize=4096)
def _verifier(key: bytes) -> VerifyKey:
    return VerifyKey(key)


def verify_signature(key: bytes, message: bytes, signature: bytes, what: str) -> None:
    """Return if the Ed25519 signature holds; `ProofError`, naming `what`, if it does not."""
    try:
        _verifier(key).verify(message, signature)
    except (BadSignatureError, ValueError):
        raise ProofError(f"{what}: the signature does not hold") from None
