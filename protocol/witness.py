"""The witness protocol (c2sp.org/tlog-witness), `add-checkpoint`, of both sides, without the HTTP.

A log sends its checkpoint with a consistency proof from what the witness saw last; the witness
answers with its cosignature, or says why not. `examine` is a witness's whole decision, a function
of the request, the log's keys and what the witness has seen; `read_answer` is what the log makes
of the answer. Nothing here believes either side.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, ProofError, TallyError
from tallystick.protocol.heads import Head
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey, key_id
from tallystick.protocol.merkle import EMPTY_ROOT, HASH_SIZE, verify_consistency
from tallystick.protocol.messages import plain
from tallystick.protocol.notes import (
    Note,
    Signature,
    cosigned_message,
    format_note,
    parse_note,
)
from tallystick.protocol.signers import SIZE_MAX, parse_checkpoint_head, verify_line

PROOF_LINES_MAX = 63
REQUEST_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 64 * 1024
SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"

_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})")
_HASH = re.compile(rb"[A-Za-z0-9+/]{43}=")
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: from which size on the proof leads, the proof, and the checkpoint."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: Note

    @property
    def head(self) -> Head:
        """The origin, size and root of the checkpoint."""
        return parse_checkpoint_head(self.checkpoint.text)


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest head of an origin that a witness co-signed."""

    size: int
    root: bytes


NOTHING_SEEN = Seen(0, EMPTY_ROOT)


class Refused(TallyError):
    """A witness does not co-sign: the status of its answer, the body and the body's type."""

    exit_code = 1

    def __init__(self, status: int, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.size = size

    @property
    def body(self) -> bytes:
        """The answer's body: the witness's size for 409, otherwise a sentence."""
        return (self.message if self.size is None else str(self.size)).encode() + b"\n"

    @property
    def content_type(self) -> str:
        """The body's type."""
        return TEXT_TYPE if self.size is None else SIZE_TYPE


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A line of a known key that holds, and its time (POSIX seconds)."""

    vkey: Vkey
    line: Signature
    at_s: int


@dataclass(frozen=True, slots=True)
class Behind:
    """The witness has seen another size than the one that the proof began at."""

    size: int


def format_request(request: AddCheckpoint) -> bytes:
    """The request's body."""
    rows = "".join(base64.b64encode(item).decode() + "\n" for item in request.proof)
    return f"old {request.old_size}\n{rows}\n".encode() + format_note(request.checkpoint)


def parse_request(data: bytes) -> AddCheckpoint:
    """The request of a body; `Refused` with 400 unless `format_request` would write it so."""
    if len(data) > REQUEST_BYTES_MAX:
        raise Refused(400, f"the request has {len(data)} bytes; {REQUEST_BYTES_MAX} are allowed")
    begin, gap, checkpoint = data.partition(b"\n\n")
    if not gap:
        raise Refused(400, "the request has no empty line before its checkpoint")
    rows = begin.split(b"\n")
    old = _OLD.fullmatch(rows[0])
    if old is None or int(old[1]) > SIZE_MAX:
        raise Refused(400, "the request does not begin with a line: old SIZE")
    if len(rows) - 1 > PROOF_LINES_MAX:
        raise Refused(400, f"the proof has more than {PROOF_LINES_MAX} lines")
    proof = []
    for number, row in enumerate(rows[1:], 2):
        item = base64.b64decode(row) if _HASH.fullmatch(row) else b""
        if len(item) != HASH_SIZE or base64.b64encode(item) != row:
            raise Refused(400, f"line {number} of the request is not a hash in base64")
        proof.append(item)
    try:
        request = AddCheckpoint(int(old[1]), tuple(proof), parse_note(checkpoint))
        parse_checkpoint_head(request.checkpoint.text)
    except FormatError as error:
        raise Refused(400, error.message) from None
    return request


def check_signature(request: AddCheckpoint, vkeys: Sequence[Vkey]) -> Signature:
    """The line by which the log signed; `Refused` with 403 if none of its keys did, or one did
    not.
    """
    held: list[Signature] = []
    for vkey in vkeys:
        for line in request.checkpoint.lines_of(vkey):
            try:
                verify_line(vkey, request.checkpoint.text, line.blob)
            except ProofError as error:
                raise Refused(403, error.message) from None
            held.append(line)
    if not held:
        raise Refused(403, "no key of this log signed the checkpoint")
    return held[0]


def check_prefix(request: AddCheckpoint, seen: Seen) -> Head:
    """The head, if it extends what was seen; `Refused` with 400, 409 or 422 if not."""
    head = request.head
    if request.old_size > head.size:
        raise Refused(400, f"the old size is {request.old_size}, the checkpoint's {head.size}")
    if request.old_size != seen.size:
        raise Refused(409, f"the newest co-signed size is {seen.size}", seen.size)
    try:
        if not head.size and head.root != EMPTY_ROOT:
            raise ProofError("the root is not the empty tree's")
        verify_consistency(seen.size, seen.root, head.size, head.root, request.proof)
    except ProofError as error:
        raise Refused(422, error.message) from None
    return head


def examine(request: AddCheckpoint, vkeys: Sequence[Vkey], seen: Seen) -> Head:
    """The head that a witness may co-sign, being what it has seen; `Refused` if it must not."""
    if not vkeys:
        raise Refused(404, "this log is not known here")
    check_signature(request, vkeys)
    return check_prefix(request, seen)


def cosign_checkpoint(text: str, name: str, key: SigningKey, timestamp_s: int) -> Signature:
    """A cosignature/v1 line over a checkpoint's whole text."""
    signature = key.sign(cosigned_message(text, timestamp_s)).signature
    id = key_id(name, ED25519_COSIGNATURE, bytes(key.verify_key))
    return Signature(name, id, timestamp_s.to_bytes(8, "big") + signature)


def read_answer(
    status: int, content_type: str, body: bytes, text: str, vkeys: Sequence[Vkey]
) -> tuple[Cosigned, ...] | Behind:
    """What a witness answered to a checkpoint of this text: lines of its keys that hold, or which
    size it has seen. `Refused` has its status; `FormatError` and `ProofError` say that no witness
    answers so.
    """
    if len(body) > ANSWER_BYTES_MAX:
        raise FormatError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    if status == 409 and content_type.partition(";")[0].strip() == SIZE_TYPE:
        size = _SIZE.fullmatch(body)
        if size is None or int(size[1]) > SIZE_MAX:
            raise FormatError("the witness's size is not a decimal number and a newline")
        return Behind(int(size[1]))
    if status != 200:
        said = body[:200].decode("utf-8", "replace").split("\n")[0]
        raise Refused(status, plain(said).strip() or "it said nothing")
    try:
        note = parse_note(text.encode() + b"\n" + body)
    except FormatError:
        raise FormatError("the answer is not made of signature lines") from None
    if note.text != text:
        raise FormatError("the answer is not made of signature lines")
    found: list[Cosigned] = []
    for vkey in vkeys:
        for line in note.lines_of(vkey):
            at_s = verify_line(vkey, text, line.blob)
            if not at_s:
                raise ProofError(f"the cosignature of {vkey.name} has no time")
            found.append(Cosigned(vkey, line, at_s))
    if not found:
        raise ProofError("the answer has no line of a key that the witness is known by")
    return tuple(found)


def origin_hash(origin: str) -> str:
    """The name of a log in a witness's monitoring addresses."""
    return hashlib.sha256(origin.encode()).hexdigest()
