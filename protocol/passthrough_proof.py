"""Proof that a line sold downstream stands on lines bought upstream: two files.

The *proof* is for whoever may see the reseller's purchase. It holds lines of closed periods on both
sides, each with its place in the statement that a checkpoint closes, and the checkpoints as both
parties of a channel signed them. The lines bought add up to the lines sold:

    tallystick passthrough v1
    period 2026-10

    sold
    line <the line's MessagePack, base64>
    index 3
    <32 bytes in base64, one line a hash, from the leaf upwards>

    <the checkpoint's signed note, verbatim>
    bought
    …

The *seal* is for a customer, who is to see his own lines and nothing of the purchase: the same
beginning with the title `tallystick passthrough-seal v1`, a line `proof` with the proof's SHA-256
in hex, and his part of what was sold. Nobody can change the proof behind a seal, or guess it: it
holds signatures. Whoever is shown both knows that they belong together.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tallystick.protocol.checkpoint import Checkpoint, parse_checkpoint
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.merkle import inclusion_path, root_of
from tallystick.protocol.notes import Note, parse_note
from tallystick.protocol.statement import Line, encode_line, line_leaves

TITLE = "tallystick passthrough v1"
SEAL_TITLE = "tallystick passthrough-seal v1"
FILE_BYTES_MAX = 16 * 1024 * 1024
PATH_MAX = 64

Direction = Literal["sold", "bought"]

_HEAD = re.compile(
    rf"(?P<title>{TITLE}|{SEAL_TITLE})\n"
    r"period (?P<period>[0-9TW:+-]{4,32})\n"
    r"(?:proof (?P<proof>[0-9a-f]{64})\n)?"
)
_HASH = re.compile(r"[A-Za-z0-9+/]{43}=")
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
_LINE = re.compile(r"line ([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """A line's canonical bytes, its index in the statement and its path there."""

    data: bytes
    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Lines of one closed period of one channel, by their index, and its checkpoint's note."""

    direction: Direction
    lines: tuple[PlacedLine, ...]
    data: bytes
    note: Note
    checkpoint: Checkpoint

    @property
    def order(self) -> tuple[bool, bytes, int]:
        """Where it stands in a file: what was sold first, then by channel and period."""
        return (self.direction == "bought", self.checkpoint.channel_id, self.checkpoint.start_us)


@dataclass(frozen=True, slots=True)
class PassthroughProof:
    """What a file says. `period` is the one in which all its lines count, or which the periods in
    which they count make up; `proof` is the digest that a seal names; a proof has none."""

    period: str
    sections: tuple[Section, ...]
    proof: bytes = b""

    def of(self, direction: Direction) -> list[Section]:
        """The sections of one direction."""
        return [section for section in self.sections if section.direction == direction]


def build_section(
    direction: Direction, statement: Sequence[Line], lines: Iterable[Line], note: bytes
) -> Section:
    """The section of some lines of a statement, which a checkpoint's note closes.

    `ProofError` if the note closes another statement.
    """
    leaves = line_leaves(statement)
    parsed = parse_note(note)
    closed = parse_checkpoint(parsed.text)
    if closed.lines != len(leaves) or closed.statement_root != root_of(leaves):
        raise ProofError(f"these are not the lines that the checkpoint of {closed.period} closes")
    placed = []
    for index in sorted({statement.index(line) for line in lines}):
        path = inclusion_path(index, len(leaves), lambda a, b: root_of(leaves[a:b]))
        placed.append(PlacedLine(encode_line(statement[index]), index, tuple(path)))
    return Section(direction, tuple(placed), note, parsed, closed)


def build_proof(period: str, sections: Iterable[Section]) -> PassthroughProof:
    """The proof of these sections, in their order."""
    return PassthroughProof(period, tuple(sorted(sections, key=lambda section: section.order)))


def seal_of(proof: bytes, channel_id: bytes) -> PassthroughProof:
    """The seal on a proof for the customer of a channel."""
    whole = parse_passthrough(proof)
    own = [one for one in whole.of("sold") if one.checkpoint.channel_id == channel_id]
    return PassthroughProof(whole.period, tuple(own), proof_digest(proof))


def proof_digest(proof: bytes) -> bytes:
    """What a seal knows a proof by."""
    return hashlib.sha256(proof).digest()


def encode_passthrough(proof: PassthroughProof) -> bytes:
    """The file's bytes, of a proof or a seal."""
    rows = [SEAL_TITLE if proof.proof else TITLE, f"period {proof.period}"]
    rows += [f"proof {proof.proof.hex()}"] if proof.proof else []
    parts = ["".join(f"{row}\n" for row in [*rows, ""]).encode()]
    for section in proof.sections:
        rows = [section.direction]
        for line in section.lines:
            rows += [f"line {_base64(line.data)}", f"index {line.index}", *map(_base64, line.path)]
        parts += ["".join(f"{row}\n" for row in [*rows, ""]).encode(), section.data]
    return b"".join(parts)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def parse_passthrough(data: bytes) -> PassthroughProof:
    """The proof or seal of a file; `FormatError` unless it is in its one form, in which no line
    stands twice. Nothing is verified here.
    """
    if len(data) > FILE_BYTES_MAX:
        raise FormatError(f"the file has {len(data)} bytes or more; {FILE_BYTES_MAX} are allowed")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"the file is not UTF-8 at byte {error.start}") from None
    match = _HEAD.match(text)
    if match is None or (match["title"] == SEAL_TITLE) != (match["proof"] is not None):
        raise FormatError(f"not a passthrough: it does not begin as {TITLE} does")
    rows = text[match.end() :].split("\n")
    if rows[0] or rows[-1] or len(rows) < 3:
        raise FormatError("not a passthrough: no empty line follows its beginning")
    sections = tuple(_sections(rows[1:-1]))
    digest = bytes.fromhex(match["proof"] or "")
    proof = PassthroughProof(match["period"], sections, digest)
    orders = [section.order for section in sections]
    if any(a >= b for a, b in pairwise(orders)):
        raise FormatError("not a passthrough: its periods are not in order, or one is there twice")
    if not proof.of("sold") or bool(proof.of("bought")) == bool(digest):
        raise FormatError("not a passthrough: it has both what was sold and what was bought")
    if encode_passthrough(proof) != data:
        raise FormatError("not a passthrough: it is not in canonical form")
    return proof


def _sections(rows: Sequence[str]) -> Iterator[Section]:
    at = 0
    while at < len(rows):
        if rows[at] not in ("sold", "bought"):
            raise FormatError(f"not a passthrough: {rows[at][:40]!r} is neither sold nor bought")
        direction: Direction = "sold" if rows[at] == "sold" else "bought"
        lines, at = _lines(rows, at + 1)
        end = _next(rows, at, "")  # behind the note's text
        while end < len(rows) and rows[end].startswith("— "):
            end += 1
        note_data = "".join(f"{row}\n" for row in rows[at:end]).encode()
        note = parse_note(note_data)
        yield Section(direction, lines, note_data, note, parse_checkpoint(note.text))
        at = end


def _next(rows: Sequence[str], at: int, wanted: str) -> int:
    """The place behind the next row of this text."""
    try:
        return rows.index(wanted, at) + 1
    except ValueError:
        raise FormatError("not a passthrough: a checkpoint's note has no end") from None


def _lines(rows: Sequence[str], at: int) -> tuple[tuple[PlacedLine, ...], int]:
    """The lines that stand before the next empty row, and the place behind that."""
    end = _next(rows, at, "")
    lines: list[PlacedLine] = []
    while at < end - 1:
        line = _LINE.fullmatch(rows[at])
        index = _INDEX.fullmatch(rows[at + 1]) if line else None
        if line is None or index is None:
            raise FormatError("not a passthrough: a line, its index or a hash is misspelt")
        at += 2
        path = []
        while at < end - 1 and _HASH.fullmatch(rows[at]):
            path.append(base64.b64decode(rows[at]))
            at += 1
        if len(path) > PATH_MAX:
            raise FormatError(f"a path of {len(path)} hashes; {PATH_MAX} are allowed")
        try:
            data = base64.b64decode(line[1], validate=True)
        except ValueError:
            raise FormatError("not a passthrough: a line is not base64") from None
        lines.append(PlacedLine(data, int(index[1]), tuple(path)))
    if not lines or any(a.index >= b.index for a, b in pairwise(lines)):
        raise FormatError("not a passthrough: its lines are not in order, or one is there twice")
    return tuple(lines), end
