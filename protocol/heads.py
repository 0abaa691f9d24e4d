"""Heads: a log's size and root as a C2SP tlog-checkpoint (c2sp.org/tlog-checkpoint).

The author signs with its log key, whose name is the origin; the peer co-signs with its cosigner
key and a time. Hot paths handle the bare signature bytes; `SignedHead.note` writes the note that
any implementation of the standard reads.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey, verify_signature
from tallystick.protocol.notes import (
    Note,
    Signature,
    cosigned_message,
    format_note,
    parse_note,
    verify_cosignature_blob,
    verify_note_cosignature,
    verify_note_signature,
)

_TEXT = re.compile(
    r"(?P<origin>[^\s+]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n"
)


@dataclass(frozen=True, slots=True)
class Head:
    """A log's origin, its size in leaves and its root hash."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class VerifiedHead:
    """A head whose two signatures hold, and when the peer co-signed it (POSIX seconds)."""

    head: Head
    cosigned_at_s: int


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head with its author's signature (64 bytes) and its peer's cosignature (72 bytes)."""

    head: Head
    signature: bytes
    cosignature: bytes

    def note(
        self, logs: Sequence[Vkey], cosigners: Sequence[Vkey], witnesses: Sequence[Signature] = ()
    ) -> bytes:
        """The signed note: the author's 0x01 line, the peer's 0x04 line, those of witnesses.

        Of several keys each line names the one that made it; the last one is not tried.
        """
        text = head_text(self.head)
        for log in logs[:-1]:
            with suppress(ProofError):
                verify_head_signature(self.head, log.key, self.signature)
                break
        else:
            log = logs[-1]
        for cosigner in cosigners[:-1]:
            with suppress(ProofError):
                verify_cosignature_blob(text, cosigner, self.cosignature)
                break
        else:
            cosigner = cosigners[-1]
        author = Signature(log.name, log.id, self.signature)
        return format_note(
            Note(
                text,
                (
                    author,
                    Signature(cosigner.name, cosigner.id, self.cosignature),
                    *sorted(witnesses, key=lambda line: (line.name, line.key_id)),
                ),
            )
        )


def head_text(head: Head) -> str:
    """The note's text: origin, size, root."""
    return f"{head.origin}\n{head.size}\n{base64.b64encode(head.root).decode()}\n"


def parse_head(text: str) -> Head:
    """The head of a text; `FormatError` unless `head_text` would write it so."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise FormatError("not a head: it has three lines, an origin, a size and a root in base64")
    head = Head(match["origin"], int(match["size"]), base64.b64decode(match["root"]))
    if head_text(head) != text:
        raise FormatError("not a head: the root is not in canonical base64")
    return head


def sign_head(head: Head, key: SigningKey) -> bytes:
    """The author's Ed25519 signature, 64 bytes."""
    return key.sign(head_text(head).encode()).signature


def cosign_head(head: Head, key: SigningKey, timestamp_s: int) -> bytes:
    """The peer's cosignature/v1: timestamp ‖ signature, 72 bytes."""
    message = cosigned_message(head_text(head), timestamp_s)
    return timestamp_s.to_bytes(8, "big") + key.sign(message).signature


def verify_head_signature(head: Head, log_key: bytes, signature: bytes) -> None:
    """Return if the author's signature holds; else `ProofError`."""
    verify_signature(log_key, head_text(head).encode(), signature, f"head {head.size}")


def verify_head_cosignature(head: Head, name: str, cosigner_key: bytes, blob: bytes) -> int:
    """The time at which the peer co-signed (POSIX seconds); `ProofError` if it does not hold."""
    vkey = Vkey(name, ED25519_COSIGNATURE, cosigner_key)
    return verify_cosignature_blob(head_text(head), vkey, blob)


def parse_head_note(data: bytes, log: Vkey, cosigner: Vkey) -> VerifiedHead:
    """The head of a note whose first two lines are these keys', both of which hold.

    Lines after them, of witnesses, are not judged here: see `policy`.
    """
    note = parse_note(data)
    head = parse_head(note.text)
    if head.origin != log.name:
        raise ProofError(f"the head is of {head.origin}, not of {log.name}")
    if [signature.name for signature in note.signatures[:2]] != [log.name, cosigner.name]:
        raise ProofError("a head carries two signatures, its author's and then its peer's")
    verify_note_signature(note, log)
    return VerifiedHead(head, verify_note_cosignature(note, cosigner))
