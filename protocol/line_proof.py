"""Proof of one balance line: that both parties signed it, without showing any other line.

Two files: the line's canonical bytes (`.line`), and a text like a delta's proof, with the line's
place in the statement's tree, its inclusion path (RFC 6962, 2.1.1) and the signed checkpoint:

    tallystick line-proof v1
    index 3
    <32 bytes in base64, one line a hash, from the leaf upwards>

    <the checkpoint's signed note, verbatim>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from tallystick.protocol.errors import ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.merkle import inclusion_path, leaf_hash, root_of, verify_inclusion
from tallystick.protocol.notes import parse_note
from tallystick.protocol.proof import Proof, format_path, parse_path
from tallystick.protocol.statement import Line, decode_line, line_leaves

TITLE = "tallystick line-proof v1"


@dataclass(frozen=True, slots=True)
class VerifiedLine:
    """A balance line that both parties signed, and the checkpoint that says so."""

    line: Line
    checkpoint: Checkpoint


def build_line_proof(lines: Sequence[Line], index: int, checkpoint: bytes) -> bytes:
    """The proof, as text, of `lines[index]` in the statement that this signed note closes.

    `lines` are all the period's lines in order; `ProofError` if the note closes other ones.
    """
    leaves = line_leaves(lines)
    closed = parse_checkpoint(parse_note(checkpoint).text)
    if closed.lines != len(leaves) or closed.statement_root != root_of(leaves):
        raise ProofError(f"these are not the lines that the checkpoint of {closed.period} closes")
    path = inclusion_path(index, len(leaves), lambda start, end: root_of(leaves[start:end]))
    return format_line_proof(index, path, checkpoint)


def format_line_proof(index: int, path: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The proof's text, of a line's index, its path and the checkpoint's signed note."""
    return format_path(TITLE, index, path, checkpoint)


def parse_line_proof(data: bytes) -> Proof:
    """The proof of this text, its `note` being the checkpoint's as it stands.

    `FormatError` unless `format_line_proof` would write it so.
    """
    return parse_path(TITLE, data)


def verify_line_proof(proof: bytes, line: bytes, ring: Keyring) -> VerifiedLine:
    """The line, if both parties signed a statement with it, by keys of the ring.

    `proof` and `line` are the two files' bytes. `FormatError` if either is not in its one form,
    `ProofError` if a signature or the inclusion does not hold.
    """
    parsed = parse_line_proof(proof)
    found = decode_line(line)
    checkpoint = verify_checkpoint(parsed.note, ring)
    verify_inclusion(
        leaf_hash(line), parsed.index, checkpoint.lines, parsed.path, checkpoint.statement_root
    )
    return VerifiedLine(found, checkpoint)
