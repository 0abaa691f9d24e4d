"""The proof of a delta: a c2sp.org/tlog-proof@v1 file, checked with the leaf data beside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.errors import FormatError
from tallystick.protocol.heads import VerifiedHead, parse_head_note
from tallystick.protocol.keys import Vkey
from tallystick.protocol.merkle import leaf_hash, verify_inclusion

TITLE = "c2sp.org/tlog-proof@v1"
PATH_MAX = 64

_PROOF = re.compile(r"index (?P<index>0|[1-9][0-9]{0,18})\n(?P<path>(?:[A-Za-z0-9+/]{43}=\n)*)\n")


@dataclass(frozen=True, slots=True)
class Proof:
    """A leaf's index, its path from the sibling up, and the note it leads to."""

    index: int
    path: tuple[bytes, ...]
    note: bytes


def format_path(title: str, index: int, path: Sequence[bytes], note: bytes) -> bytes:
    """A proof file: a title, the index, the path in base64, an empty line, the note."""
    rows = "".join(base64.b64encode(item).decode() + "\n" for item in path)
    return f"{title}\nindex {index}\n{rows}\n".encode() + note


def parse_path(title: str, data: bytes) -> Proof:
    """The proof of such a file; `FormatError` unless `format_path` would write it so."""
    begin = f"{title}\n".encode()
    if not data.startswith(begin):
        raise FormatError(f"not a proof: it does not begin with {title}")
    if data.startswith(b"extra ", len(begin)):
        raise FormatError("the proof has an extra line, which none of ours has")
    end = data.find(b"\n\n") + 2
    match = _PROOF.fullmatch(data[len(begin) : end].decode("ascii", "replace")) if end > 1 else None
    if match is None:
        raise FormatError("not a proof: after the title come an index and hashes in base64")
    path = tuple(base64.b64decode(row) for row in match["path"].split())
    proof = Proof(int(match["index"]), path, data[end:])
    if len(path) > PATH_MAX or format_path(title, proof.index, path, proof.note) != data:
        raise FormatError("not a proof: it is not in canonical form")
    return proof


def format_proof(index: int, path: Sequence[bytes], head_note: bytes) -> bytes:
    """The tlog-proof file of a leaf under a signed head."""
    return format_path(TITLE, index, path, head_note)


def parse_proof(data: bytes) -> Proof:
    """The proof of a tlog-proof file; its `note` is the head's."""
    return parse_path(TITLE, data)


def verify_proof(proof: Proof, leaf_data: bytes, log: Vkey, cosigner: Vkey) -> VerifiedHead:
    """The head under which the leaf is proved; `ProofError` if anything does not hold."""
    verified = parse_head_note(proof.note, log, cosigner)
    head = verified.head
    verify_inclusion(leaf_hash(leaf_data), proof.index, head.size, proof.path, head.root)
    return verified
