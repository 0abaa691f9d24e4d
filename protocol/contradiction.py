"""Evidence against a witness: two of its lines on heads of one log that cannot both be honest.

A line says that, at its time, no larger head of that log was known to its maker (c2sp.org's
tlog-cosignature). So nobody honest signs two heads of one size with other roots, nor a larger head
and, later, a smaller one. Both notes stand in the file with that witness's line alone:

    tallystick witness-evidence v1
    witness <verifier key>

    <one head's signed note>

    <the other head's signed note>

The note that sorts first as bytes comes first. Whose the key is, the reader must know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.accusation import NOTE, file_text
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.heads import Head
from tallystick.protocol.keys import Vkey
from tallystick.protocol.notes import Note, format_note, parse_note
from tallystick.protocol.signers import parse_checkpoint_head, parse_signer, verify_line

TITLE = "tallystick witness-evidence v1"

_FILE = re.compile(rf"{TITLE}\nwitness (?P<vkey>[^\n]+)\n\n(?P<first>{NOTE})\n(?P<second>{NOTE})")


@dataclass(frozen=True, slots=True)
class Said:
    """A head that a witness co-signed, and when it says that it did (POSIX seconds)."""

    head: Head
    at_s: int


def contradict(one: Said, other: Said) -> str:
    """What no honest witness can have said both of, in words; empty if one may have."""
    first, second = sorted((one, other), key=lambda said: (said.at_s, -said.head.size))
    if first.head.origin != second.head.origin:
        return ""
    if first.head.size == second.head.size and first.head.root != second.head.root:
        return f"it co-signed two heads of {first.head.size} records with other roots"
    if first.head.size > second.head.size and first.at_s < second.at_s:
        return (
            f"it co-signed {first.head.size} records and, {second.at_s - first.at_s} seconds later,"
            f" {second.head.size} as all that it knew"
        )
    return ""


def build_contradiction(vkey: Vkey, one: Note, other: Note) -> bytes:
    """The file of two heads' notes, each with a line of the witness alone, in any order. Whether it
    convicts is for `verify_contradiction` to say.
    """
    first, second = sorted((format_note(one), format_note(other)))
    return f"{TITLE}\nwitness {vkey}\n\n".encode() + first + b"\n" + second


class _Known:
    """What the checks have established so far."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.vkey: Vkey
        self.notes: tuple[Note, Note]
        self.said: list[Said]


def _check_form(known: _Known) -> str:
    match = _FILE.fullmatch(file_text(known.data, TITLE))
    if match is None:
        raise FormatError("a line is missing, doubled or misspelt")
    known.vkey = parse_signer(match["vkey"])
    one, other = (parse_note(match[name].encode()) for name in ("first", "second"))
    if len(one.signatures) + len(other.signatures) != 2:
        raise FormatError("a note has other lines than the witness's")
    if build_contradiction(known.vkey, one, other) != known.data:
        raise FormatError("it is not in canonical form")
    known.notes = one, other
    return f"two heads and the key {known.vkey}: ask {known.vkey.name} whether it is its own"


def _check_lines(known: _Known) -> str:
    known.said = []
    for note in known.notes:
        (line,) = note.signatures
        if (line.name, line.key_id) != (known.vkey.name, known.vkey.id):
            raise ProofError(f"a line is of {line.name}, and not by the key that is named")
        at_s = verify_line(known.vkey, note.text, line.blob)
        if not at_s:
            raise ProofError(f"the signature of {line.name} has no time: it is no witness's line")
        known.said.append(Said(parse_checkpoint_head(note.text), at_s))
    return f"{known.vkey.name} signed both"


def _check_contradiction(known: _Known) -> str:
    said = contradict(*known.said)
    if not said:
        raise ProofError("an honest witness may have signed both")
    return f"of {known.said[0].head.origin} {said}"


_STEPS: Sequence[Step[_Known]] = (
    ("form", (), _check_form),
    ("lines", (1,), _check_lines),
    ("contradiction", (2,), _check_contradiction),
)


def verify_contradiction(data: bytes) -> list[Check]:
    """Whether a file convicts the witness whose key it names."""
    return list(run_checks(_Known(data), _STEPS))
