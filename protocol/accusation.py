"""Who is accused, in which log, and by which keys: what evidence and a refutation have in common.

Both files are texts that begin alike: the channel, the accused party and its part in the log (its
`author`, which signs its heads, or its `co-signer`, which promised to co-sign only what extends
what it co-signed before), the terms record, and the rotations that say which keys came later.
Heads stand in them as the signed notes that they are, with whatever lines they carry.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.heads import Head, parse_head
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import origin
from tallystick.protocol.notes import (
    Note,
    parse_note,
    verify_note_cosignature,
    verify_note_signature,
)
from tallystick.protocol.records import Role, Rotation, Terms, decode_record
from tallystick.protocol.terms import channel_id, check_terms, role_of

FILE_BYTES_MAX = 1 << 20

Part = Literal["author", "co-signer"]

# The pieces of which both files' patterns are made.
HASH = r"[A-Za-z0-9+/]{43}="
HASHES = rf"(?:{HASH}\n)*"
NOTE = r"[^\n]+\n[0-9]+\n[^\n]+\n\n(?:— [^\n]+\n)+"
ACCUSED = (
    r"channel (?P<channel>[0-9a-f]{64})\n"
    r"accused (?P<party>[^ \n]{1,253}) as (?P<part>author|co-signer)\n"
    r"terms (?P<terms>[A-Za-z0-9+/]+={0,2})\n"
    r"(?P<rotations>(?:rotation [A-Za-z0-9+/]+={0,2}\n)*)"
)


@dataclass(frozen=True, slots=True)
class Accused:
    """A party and its part in a log of a channel; the terms record's bytes and those of the
    rotations of its log and cosigner keys, oldest first.
    """

    channel_id: bytes
    party: str
    part: Part
    terms: bytes
    rotations: tuple[bytes, ...] = ()

    def text(self) -> str:
        """The lines that begin both files."""
        rotations = "".join(f"rotation {base64_of(data)}\n" for data in self.rotations)
        return (
            f"channel {self.channel_id.hex()}\n"
            f"accused {self.party} as {self.part}\n"
            f"terms {base64_of(self.terms)}\n"
            f"{rotations}"
        )


@dataclass(frozen=True, slots=True)
class NotedHead:
    """A head as it stands in a file: its note's bytes, and both as parsed."""

    data: bytes
    note: Note
    head: Head

    @classmethod
    def parse(cls, data: bytes) -> NotedHead:
        """The head of a signed note; `FormatError` if it is none. No signature is checked."""
        note = parse_note(data)
        return cls(data, note, parse_head(note.text))

    def __str__(self) -> str:
        return f"{self.head.size} records, root {self.head.root.hex()[:16]}"


class Known:
    """What the checks have established so far; the file's own parts are added by its verifier."""

    accused: Accused  # by the check of the form
    terms: Terms  # by `check_accused_terms`
    role: Role
    author: Role
    ring: Keyring  # by `check_accused_keys`


def base64_of(data: bytes) -> str:
    """Bytes as the files show them."""
    return base64.b64encode(data).decode()


def hashes_of(rows: str) -> tuple[bytes, ...]:
    """The hashes that a match of `HASHES` shows."""
    return tuple(base64.b64decode(row) for row in rows.split())


def accused_of(match: re.Match[str]) -> Accused:
    """What a match of `ACCUSED` says; `FormatError` if a value is not base64."""
    try:
        rotations = [base64.b64decode(row[9:]) for row in match["rotations"].splitlines()]
        terms = base64.b64decode(match["terms"])
    except ValueError as error:
        raise FormatError(f"a value is not base64: {error}") from None
    part: Part = "author" if match["part"] == "author" else "co-signer"
    return Accused(bytes.fromhex(match["channel"]), match["party"], part, terms, tuple(rotations))


def file_text(data: bytes, title: str) -> str:
    """The text of a file with this title; `FormatError` if it is another or no text."""
    if len(data) > FILE_BYTES_MAX:
        raise FormatError(f"a file of more than {FILE_BYTES_MAX} bytes")
    if not data.startswith(f"{title}\n".encode()):
        raise FormatError(f"it does not begin with {title}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8 at byte {error.start}") from None


def terms_of(data: bytes, expected: bytes) -> Terms:
    """The terms record of these bytes, if it makes sense and founds the expected channel."""
    record = decode_record(data)
    if not isinstance(record, Terms):
        raise ProofError("the terms are a record of another kind")
    check_terms(record)
    if channel_id(record) != expected:
        raise ProofError(
            f"these are the terms of channel {channel_id(record).hex()}, not of {expected.hex()}"
        )
    return record


def ring_of(terms: Terms, rotations: Sequence[bytes]) -> Keyring:
    """The keys of the terms and those that followed, each signed for by the one before it."""
    ring = Keyring(terms)
    for place, data in enumerate(rotations):
        record = decode_record(data)
        if not isinstance(record, Rotation) or record.job == "transport":
            raise ProofError("a rotation is a record of another kind, or of a transport key")
        ring = ring.after(place, record)
    return ring


def check_accused_terms(known: Known) -> str:
    """The terms make sense, their SHA-256 is the channel, and the accused is a party of it."""
    accused = known.accused
    record = terms_of(accused.terms, accused.channel_id)
    parties = (record.provider.name, record.consumer.name)
    if accused.party not in parties:
        raise ProofError(f"{accused.party} is not a party of this channel, {' and '.join(parties)}")
    known.terms, known.role = record, role_of(record, accused.party)
    other: Role = "consumer" if known.role == "provider" else "provider"
    known.author = known.role if accused.part == "author" else other
    return (
        f"channel {accused.channel_id.hex()} between {parties[0]} (provider)"
        f" and {parties[1]} (consumer)"
    )


def check_accused_keys(known: Known) -> str:
    """Each rotation is signed by the key before it, so all keys follow from the terms."""
    known.ring = ring_of(known.terms, known.accused.rotations)
    count = len(known.accused.rotations)
    return "those of the terms" if not count else f"those of the terms and {count} that followed"


def check_log(known: Known, head: Head) -> None:
    """`ProofError` unless the head is of the log that the accusation is about."""
    author = known.terms.provider if known.author == "provider" else known.terms.consumer
    expected = origin(author.name, known.accused.channel_id)
    if head.origin != expected:
        raise ProofError(f"a head is of {head.origin}, not of {expected}")


def verify_author_line(note: Note, ring: Keyring, role: Role) -> None:
    """Return if a log key of the party signed the note; else `ProofError`."""
    vkeys = ring.log_vkeys(role)
    for vkey in vkeys[1:]:
        with suppress(ProofError):
            return verify_note_signature(note, vkey)
    return verify_note_signature(note, vkeys[0])


def verify_cosigner_line(note: Note, ring: Keyring, role: Role) -> int:
    """When a cosigner key of the party co-signed the note (POSIX seconds); else `ProofError`."""
    vkeys = ring.cosigner_vkeys(role)
    for vkey in vkeys[1:]:
        with suppress(ProofError):
            return verify_note_cosignature(note, vkey)
    return verify_note_cosignature(note, vkeys[0])


def check_accused_line(known: Known, noted: NotedHead) -> str:
    """The head is of the log in question and the accused signed or co-signed it."""
    check_log(known, noted.head)
    if known.accused.part == "author":
        verify_author_line(noted.note, known.ring, known.role)
        return f"{noted}, signed by {known.accused.party}"
    verify_cosigner_line(noted.note, known.ring, known.role)
    return f"{noted}, co-signed by {known.accused.party}"


def in_order(heads: Sequence[NotedHead]) -> list[NotedHead]:
    """The heads by size, those of one size by root: the one order in which files have them."""
    return sorted(heads, key=lambda noted: (noted.head.size, noted.head.root, noted.data))
