"""Signed notes (c2sp.org/signed-note) and cosignatures (c2sp.org/tlog-cosignature).

A note is a text of lines, an empty line and signature lines. The parser takes exactly what the
formatter writes; lines of unknown keys are kept and ignored, as the specification asks.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keys import ED25519_NOTE, Vkey, key_id, verify_signature

NOTE_BYTES_MAX = 1024 * 1024
SIGNATURES_MAX = 100
COSIGNATURE_SIZE = 72
TIMESTAMP_MAX = 2**63 - 1

_LINE = re.compile("— ([^ +\\s]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature line: the key's name and id, and the signature's bytes."""

    name: str
    key_id: bytes
    blob: bytes

    def line(self) -> str:
        """The line, with its newline."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.blob).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, newline at its end included, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def lines_of(self, vkey: Vkey) -> list[Signature]:
        """The lines in the name and the id of a key, whether they hold or not."""
        return [s for s in self.signatures if s.name == vkey.name and s.key_id == vkey.id]


def format_note(note: Note) -> bytes:
    """The note's bytes."""
    return (note.text + "\n" + "".join(s.line() for s in note.signatures)).encode()


def parse_note(data: bytes) -> Note:
    """The note of these bytes (c2sp.org/signed-note); `FormatError` says what is wrong and where.

    Nothing is verified here: lines of any key are taken, whatever their signature says.
    """
    if len(data) > NOTE_BYTES_MAX:
        raise FormatError(f"a note of {len(data)} bytes; {NOTE_BYTES_MAX} are allowed")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"the note is not UTF-8 at byte {error.start}") from None
    control = _CONTROL.search(whole)
    if control is not None:
        row = whole.count("\n", 0, control.start()) + 1
        raise FormatError(f"line {row} of the note holds a control character, {control[0]!r}")
    if not whole.endswith("\n"):
        raise FormatError("the note does not end with a newline")
    text, gap, lines = whole.rpartition("\n\n")
    if not gap:
        raise FormatError("the note has no empty line between its text and its signatures")
    if not lines:
        raise FormatError("the note has no signature after its last empty line")
    rows = lines[:-1].split("\n")
    if len(rows) > SIGNATURES_MAX:
        raise FormatError(f"the note has {len(rows)} signatures; {SIGNATURES_MAX} are allowed")
    first = text.count("\n") + 3  # the text's last newline is cut off, and an empty line follows
    return Note(
        text + "\n", tuple(_parse_line(row, number) for number, row in enumerate(rows, first))
    )


def _parse_line(row: str, number: int) -> Signature:
    match = _LINE.fullmatch(row)
    if match is None:
        raise FormatError(f"line {number} of the note is not a signature line: {row[:80]!r}")
    try:
        material = base64.b64decode(match[2], validate=True)
    except ValueError:
        raise FormatError(f"line {number}: the signature of {match[1]} is not base64") from None
    if len(material) < 5:
        raise FormatError(f"line {number}: the signature of {match[1]} is too short")
    signature = Signature(match[1], material[:4], material[4:])
    if signature.line() != row + "\n":  # the last digit's spare bits must be zero
        raise FormatError(f"line {number}: the base64 of {match[1]} is not canonical")
    return signature


def sign_note(text: str, name: str, key: SigningKey) -> Signature:
    """An Ed25519 signature of type 0x01 over the text."""
    signature = key.sign(text.encode()).signature
    return Signature(name, key_id(name, ED25519_NOTE, bytes(key.verify_key)), signature)


def cosigned_message(text: str, timestamp_s: int) -> bytes:
    """What a cosignature/v1 signs."""
    return f"cosignature/v1\ntime {timestamp_s}\n{text}".encode()


def verify_note_signature(note: Note, vkey: Vkey) -> None:
    """Return if the key's 0x01 signature holds; `ProofError` if not, or if there is none."""
    for signature in _of(note, vkey):
        if len(signature.blob) != 64:
            raise ProofError(f"the signature of {vkey.name} has a wrong length")
        verify_signature(vkey.key, note.text.encode(), signature.blob, f"note of {vkey.name}")


def verify_note_cosignature(note: Note, vkey: Vkey) -> int:
    """The time (POSIX seconds) of the key's 0x04 cosignature; `ProofError` if it does not hold."""
    timestamp_s = 0
    for signature in _of(note, vkey):
        timestamp_s = verify_cosignature_blob(note.text, vkey, signature.blob)
    return timestamp_s


def verify_cosignature_blob(text: str, vkey: Vkey, blob: bytes) -> int:
    """The time of a cosignature given as timestamp ‖ signature."""
    timestamp_s = int.from_bytes(blob[:8], "big")
    if len(blob) != COSIGNATURE_SIZE or timestamp_s > TIMESTAMP_MAX:
        raise ProofError(f"the cosignature of {vkey.name} has a wrong length or time")
    message = cosigned_message(text, timestamp_s)
    verify_signature(vkey.key, message, blob[8:], f"cosignature of {vkey.name}")
    return timestamp_s


def _of(note: Note, vkey: Vkey) -> list[Signature]:
    found = note.lines_of(vkey)
    if not found:
        raise ProofError(f"the note carries no signature of {vkey.name}")
    return found
