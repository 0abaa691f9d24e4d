"""Which keys count for a party in a channel: those of the terms, and those that followed them.

A key is changed without a flag day: a `Rotation` record carries a statement that the party's log
key signed, and the new key's own signature on it. The party writes it into its log, the peer
repeats it in its own, so that each log alone says which keys it knows: whoever signs or co-signs
a head of a log uses the newest of its keys that the log knows up to there. The key before stays
valid for what is dated up to `old_until`; what it signed earlier stays proved for ever.

Everything here is a function of terms and records, never of a clock.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nacl.signing import SigningKey

from tallystick.protocol.errors import InvalidRecord, ProofError
from tallystick.protocol.keys import (
    ED25519_COSIGNATURE,
    ED25519_NOTE,
    Vkey,
    origin,
    verify_signature,
)
from tallystick.protocol.records import ROLES, Announced, Job, Role, Rotation, Terms
from tallystick.protocol.terms import channel_id

NUMBER_MAX = 1000
CERTIFICATE_BYTES_MAX = 2048


@dataclass(frozen=True, slots=True)
class DatedKey:
    """A public key, its number (0: the terms') and until when it counts (None: in force)."""

    number: int
    key: bytes
    until_us: int | None


class Keyring:
    """The keys of both parties as one log knows them, after the rotations that it holds."""

    def __init__(self, terms: Terms, announced: Sequence[Announced] = ()) -> None:
        self.terms = terms
        self.channel_id = channel_id(terms)
        self.announced = tuple(announced)
        self._keys: dict[tuple[Role, Job], tuple[DatedKey, ...]] = {}
        for role in ROLES:
            party = terms.provider if role == "provider" else terms.consumer
            self._keys[role, "log"] = (DatedKey(0, party.log_key, None),)
            self._keys[role, "cosigner"] = (DatedKey(0, party.cosigner_key, None),)
            self._keys[role, "transport"] = ()  # pairing exchanged it; terms do not name it
        for one in announced:
            keys = self._keys[one.party, one.job]
            if keys:
                keys = (*keys[:-1], DatedKey(keys[-1].number, keys[-1].key, one.old_until))
            self._keys[one.party, one.job] = (*keys, DatedKey(one.number, one.key, None))

    def number(self, role: Role, job: Job) -> int:
        """The number of the key in force: 0 before the first rotation."""
        keys = self._keys[role, job]
        return keys[-1].number if keys else 0

    def keys(self, role: Role, job: Job) -> list[DatedKey]:
        """All keys that a party ever had for a job here, the one in force last."""
        return list(self._keys[role, job])

    def counting(self, role: Role, job: Job, at_us: int) -> list[bytes]:
        """The keys that count for what is dated `at_us` (microseconds), the one in force first."""
        return [
            key.key
            for key in reversed(self._keys[role, job])
            if key.until_us is None or at_us <= key.until_us
        ]

    def log_vkeys(self, role: Role) -> list[Vkey]:
        """Every verifier key that a party's log ever had, the one in force first."""
        name = origin(self._name(role), self.channel_id)
        return [Vkey(name, ED25519_NOTE, key.key) for key in reversed(self._keys[role, "log"])]

    def cosigner_vkeys(self, role: Role) -> list[Vkey]:
        """Every verifier key that a party's cosigner ever had, the one in force first."""
        keys = reversed(self._keys[role, "cosigner"])
        return [Vkey(self._name(role), ED25519_COSIGNATURE, key.key) for key in keys]

    def at(self, size: int) -> Keyring:
        """The keyring that the first `size` records of the log give."""
        known = [one for one in self.announced if one.index < size]
        return self if len(known) == len(self.announced) else Keyring(self.terms, known)

    def _name(self, role: Role) -> str:
        return self.terms.provider.name if role == "provider" else self.terms.consumer.name

    def after(self, index: int, record: Rotation) -> Keyring:
        """The keyring with the rotation at an index of the log; `InvalidRecord` if the party's log
        key in force does not stand behind it.
        """
        what = f"key {record.number} of {self._name(record.party)}'s {record.job}"
        expected = self.number(record.party, record.job) + 1
        if record.number != expected or record.number > NUMBER_MAX:
            raise InvalidRecord(f"it announces {what}; the next one is number {expected}")
        if any(record.key == known.key for keys in self._keys.values() for known in keys):
            raise InvalidRecord(f"{what} is a key that was in use before")
        text = rotation_text(self.terms, record).encode()
        try:
            # Only the key in force, so that what the author's log may hold the peer's may repeat.
            log_key = self._keys[record.party, "log"][-1].key
            verify_signature(log_key, text, record.signature, f"{what}, by the log key before it")
            if record.job == "transport":
                if not 1 <= len(record.proof) <= CERTIFICATE_BYTES_MAX:
                    raise ProofError(f"{what}: it comes with no certificate")
            else:
                verify_signature(record.key, text, record.proof, f"{what}, by itself")
        except ProofError as error:
            raise InvalidRecord(error.message) from None
        return Keyring(self.terms, (*self.announced, announced(index, record)))


def announced(index: int, record: Rotation) -> Announced:
    """What a log keeps in mind of the rotation at an index."""
    return Announced(index, record.party, record.job, record.number, record.key, record.old_until)


def rotation_text(terms: Terms, record: Rotation) -> str:
    """What the old log key and the new key sign: a statement that people can read."""
    party = terms.provider if record.party == "provider" else terms.consumer
    until = datetime.fromtimestamp(record.old_until // 1_000_000, UTC)
    return (
        "tallystick key v1\n"
        f"channel {channel_id(terms).hex()}\n"
        f"party {party.name}\n"
        f"job {record.job}\n"
        f"number {record.number}\n"
        f"key {base64.b64encode(record.key).decode()}\n"
        f"old until {until:%Y-%m-%dT%H:%M:%S}.{record.old_until % 1_000_000:06d}Z\n"
    )


def make_rotation(
    terms: Terms,
    unsigned: Rotation,
    old_log: SigningKey,
    new: SigningKey | None,
) -> Rotation:
    """The rotation with the old log key's signature and, unless it is a transport key's (which
    comes with its certificate as `proof`), the new key's own.
    """
    text = rotation_text(terms, unsigned).encode()
    return Rotation(
        unsigned.party,
        unsigned.job,
        unsigned.number,
        unsigned.key,
        unsigned.old_until,
        old_log.sign(text).signature,
        new.sign(text).signature if new is not None else unsigned.proof,
        unsigned.recorded_at,
    )
