"""Proof of one balance line: that both parties signed it, without showing any other line.

Two files: the line's canonical bytes (`.line`), and a text with the line's place in the
statement's tree, the inclusion path (RFC 6962, 2.1.1) and the checkpoint that both signed:

    tallystick line-proof v1
    index 3
    <32 bytes in base64, one line a hash, from the leaf upwards>

    <the checkpoint's signed note, verbatim>
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.merkle import inclusion_path, leaf_hash, root_of, verify_inclusion
from tallystick.protocol.notes import parse_note
from tallystick.protocol.records import Terms
from tallystick.protocol.statement import Line, decode_line, line_leaves

TITLE = "tallystick line-proof v1"
PATH_HASHES_MAX = 64

_HEAD = re.compile(
    re.escape(TITLE) + r"\nindex (?P<index>[0-9]{1,19})\n(?P<path>(?:[A-Za-z0-9+/=]{44}\n)*)"
)


@dataclass(frozen=True, slots=True)
class LineProof:
    """A line's place and path in the statement's tree, and the note of the signed checkpoint."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class VerifiedLine:
    """A balance line that both parties signed, and the checkpoint that says so."""

    line: Line
    checkpoint: Checkpoint


def build_line_proof(lines: Sequence[Line], index: int, checkpoint: bytes) -> LineProof:
    """The proof of `lines[index]` in the statement that this signed note closes.

    `lines` are all the period's lines in order; `ProofError` if the note closes other ones.
    """
    leaves = line_leaves(lines)
    closed = parse_checkpoint(parse_note(checkpoint).text)
    if closed.lines != len(leaves) or closed.statement_root != root_of(leaves):
        raise ProofError(f"these are not the lines that the checkpoint of {closed.period} closes")
    path = inclusion_path(index, len(leaves), lambda start, end: root_of(leaves[start:end]))
    return LineProof(index, tuple(path), checkpoint)


def format_line_proof(proof: LineProof) -> bytes:
    """The proof's text."""
    rows = [TITLE, f"index {proof.index}", *(base64.b64encode(h).decode() for h in proof.path)]
    return "\n".join(rows).encode() + b"\n\n" + proof.checkpoint


def parse_line_proof(data: bytes) -> LineProof:
    """The proof of this text; `FormatError` unless `format_line_proof` would write it so.

    The checkpoint's note is taken as it stands; `verify_line_proof` reads it.
    """
    head, _, note = data.partition(b"\n\n")
    match = _HEAD.fullmatch(head.decode("ascii", "replace") + "\n")
    if match is None:
        raise FormatError(
            "not a proof of a balance line: its first lines are not as they should be",
            f"It begins with {TITLE!r}, then the index and the path, a hash a line",
        )
    try:
        path = tuple(base64.b64decode(row, validate=True) for row in match["path"].splitlines())
    except ValueError:
        raise FormatError("not a proof of a balance line: its path is not base64") from None
    proof = LineProof(int(match["index"]), path, note)
    if format_line_proof(proof) != data or any(len(h) != 32 for h in path):
        raise FormatError("not a proof of a balance line: a value is not in canonical form")
    if len(path) > PATH_HASHES_MAX:
        raise FormatError(f"a path of {len(path)} hashes; at most {PATH_HASHES_MAX} make sense")
    return proof


def verify_line_proof(proof: bytes, line: bytes, terms: Terms, channel_id: bytes) -> VerifiedLine:
    """The line, if both parties of these terms signed a statement with it.

    `proof` and `line` are the two files' bytes. `FormatError` if either is not in its one form,
    `ProofError` if a signature or the inclusion does not hold.
    """
    parsed = parse_line_proof(proof)
    found = decode_line(line)
    checkpoint = verify_checkpoint(parsed.checkpoint, terms, channel_id)
    verify_inclusion(
        leaf_hash(line), parsed.index, checkpoint.lines, parsed.path, checkpoint.statement_root
    )
    return VerifiedLine(found, checkpoint)
