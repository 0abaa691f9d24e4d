"""Verify what names no keys of its own: proofs of deltas and of balance lines, checkpoints' notes.

Such a file proves something to whoever already knows the parties' verifier keys, so these come
beside it. Without them every check of form and of arithmetic is made all the same, and the check of
keys says whose are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tallystick.protocol.checkpoint import TITLE as CHECKPOINT_TITLE
from tallystick.protocol.checkpoint import Checkpoint, check_signers, parse_checkpoint
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.extras import NOTHING, Trust, check_witnesses, has_lines
from tallystick.protocol.heads import Head, parse_head
from tallystick.protocol.keys import ED25519_COSIGNATURE, ED25519_NOTE, Vkey, origin
from tallystick.protocol.line_proof import TITLE as LINE_TITLE
from tallystick.protocol.line_proof import parse_line_proof
from tallystick.protocol.merkle import HASH_SIZE, leaf_hash, verify_inclusion
from tallystick.protocol.notes import (
    Note,
    parse_note,
    verify_note_cosignature,
    verify_note_signature,
)
from tallystick.protocol.proof import TITLE as DELTA_TITLE
from tallystick.protocol.proof import Proof, parse_proof
from tallystick.protocol.records import Delta, Record, decode_record
from tallystick.protocol.statement import Line, decode_line


@dataclass
class _Known:
    """What was handed over, and what the checks have established so far."""

    data: bytes
    beside: bytes | None  # the leaf, or the line
    expected: Sequence[Vkey]
    proof: Proof | None = None
    note: Note | None = None
    head: Head | None = None
    checkpoint: Checkpoint | None = None
    line: Line | None = None
    keys: tuple[Vkey, ...] = ()
    trust: Trust = NOTHING


def verify_delta_proof(
    data: bytes, leaf: bytes | None, expected: Sequence[Vkey], trust: Trust = NOTHING
) -> list[Check]:
    """Run the five checks on a tlog-proof and the leaf data beside it, whatever they are; a sixth
    if witnesses co-signed its head, or are asked for.
    """
    known, failed = _Known(data, leaf, expected, trust=trust), dict[int, int]()
    checks = list(run_checks(known, _DELTA, failed))
    if trust.policy is not None or (known.proof is not None and has_lines(known.proof.note)):
        checks += run_checks(known, _WITNESSES, failed, len(checks) + 1)
    return checks


def verify_line(data: bytes, line: bytes | None, expected: Sequence[Vkey]) -> list[Check]:
    """Run the five checks on a balance line's proof and the line beside it."""
    return list(run_checks(_Known(data, line, expected), _LINE))


def verify_note(data: bytes, expected: Sequence[Vkey]) -> list[Check]:
    """Run the three checks on a checkpoint's note alone."""
    return list(run_checks(_Known(data, None, expected), _NOTE))


def _delta_form(known: _Known) -> str:
    """1. The proof is in its one form, and what it leads to is a head."""
    proof = known.proof = parse_proof(known.data)
    known.note = parse_note(proof.note)
    head = known.head = parse_head(known.note.text)
    return f"{DELTA_TITLE}, record {proof.index} of {head.size} of {head.origin}"


def _leaf(known: _Known) -> str:
    """2. The leaf data is the hash before it and one canonical record."""
    if known.beside is None:
        raise ProofError(
            "the leaf data is not there", "It is the .leaf file that belongs to the proof"
        )
    if len(known.beside) <= HASH_SIZE:
        raise FormatError(f"leaf data of {len(known.beside)} bytes holds no record")
    return _described(decode_record(known.beside[HASH_SIZE:]))


def _described(record: Record) -> str:
    """A record in a few words."""
    if isinstance(record, Delta):
        return (
            f"a delta: {record.meter}/{record.id}, quantity {record.quantity} in the meter's"
            f" smallest unit, of {record.subject}, occurred at {_time(record.occurred_at)}"
        )
    return f"a record of the kind {type(record).__name__.lower()}"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _delta_inclusion(known: _Known) -> str:
    """3. The leaf is in the tree of the head."""
    proof, head = known.proof, known.head
    assert proof is not None and head is not None and known.beside is not None, "checks 1 and 2"
    verify_inclusion(leaf_hash(known.beside), proof.index, head.size, proof.path, head.root)
    return f"{len(proof.path)} hashes lead to the root {head.root.hex()}"


def _delta_keys(known: _Known) -> str:
    """4. The keys that were expected are of the names that signed the head."""
    head, note = known.head, known.note
    assert head is not None and note is not None, "check 1"
    names = [signature.name for signature in note.signatures]
    if len(names) < 2 or names[0] != head.origin:
        raise ProofError("a head carries two signatures, its author's and then its peer's")
    return _take_keys(known, ((names[0], ED25519_NOTE), (names[1], ED25519_COSIGNATURE)))


def _take_keys(known: _Known, wanted: Sequence[tuple[str, int]]) -> str:
    """The expected keys of these names and kinds that the note's lines name."""
    assert known.note is not None, "check 1"
    found = []
    for place, (name, kind) in enumerate(wanted):
        of_name = [key for key in known.expected if (key.name, key.kind) == (name, kind)]
        if not of_name:
            raise ProofError(
                f"no expected key is of {name}",
                "Give the verifier keys that you know to be the parties' (tally vkey shows them)",
            )
        line = known.note.signatures[place]
        found.append(next((key for key in of_name if key.id == line.key_id), of_name[0]))
    known.keys = tuple(found)
    return "; ".join(map(str, found))


def _delta_signatures(known: _Known) -> str:
    """5. The author signed the head and the peer co-signed it, by these keys."""
    assert known.note is not None, "check 1"
    log, cosigner = known.keys
    verify_note_signature(known.note, log)
    at_s = verify_note_cosignature(known.note, cosigner)
    return f"signed by {log.name}, co-signed by {cosigner.name} at second {at_s}"


def _delta_witnesses(known: _Known) -> str:
    """6. What witnesses of the head hold, and whether the reader's policy asks for more."""
    assert known.proof is not None, "check 1"
    return check_witnesses([("the head", known.proof.note)], known.trust)


def _line_form(known: _Known) -> str:
    """1. The proof is in its one form, and what it leads to is a checkpoint."""
    proof = known.proof = parse_line_proof(known.data)
    found = _parse_checkpoint(known, proof.note)
    return f"{LINE_TITLE}, line {proof.index} of {found.lines} of {found.period}"


def _parse_checkpoint(known: _Known, data: bytes) -> Checkpoint:
    known.note = parse_note(data)
    known.checkpoint = parse_checkpoint(known.note.text)
    return known.checkpoint


def _line(known: _Known) -> str:
    """2. The line is canonical, and counts in the checkpoint's period."""
    if known.beside is None:
        raise ProofError("the line is not there", "It is the .line file that belongs to the proof")
    line = known.line = decode_line(known.beside)
    assert known.checkpoint is not None, "check 1"
    if line.period != known.checkpoint.period:
        raise ProofError(
            f"the line counts in {line.period}, not in {known.checkpoint.period}, which is closed"
        )
    late = f", late for {line.late_for}" if line.late_for is not None else ""
    return (
        f"{line.meter} of {line.subject} in {line.period}{late}: payable {line.payable}"
        f" {line.unit}, disputed {line.disputed}, pending {line.pending}"
    )


def _line_inclusion(known: _Known) -> str:
    """3. The line is in the statement's tree."""
    proof, closed = known.proof, known.checkpoint
    assert proof is not None and closed is not None and known.beside is not None, "checks 1 and 2"
    root = closed.statement_root
    verify_inclusion(leaf_hash(known.beside), proof.index, closed.lines, proof.path, root)
    return f"{len(proof.path)} hashes lead to the statement's root {root.hex()}"


def _closing_keys(known: _Known) -> str:
    """The keys that were expected are those of both parties' logs, which signed the checkpoint."""
    closed, note = known.checkpoint, known.note
    assert closed is not None and note is not None, "check 1"
    names = [origin(party, closed.channel_id) for party in (closed.provider, closed.consumer)]
    check_signers(note, names)
    return _take_keys(known, [(name, ED25519_NOTE) for name in names])


def _closing_signatures(known: _Known) -> str:
    """Both signed the checkpoint, by these keys."""
    closed, note = known.checkpoint, known.note
    assert closed is not None and note is not None, "check 1"
    for key in known.keys:
        verify_note_signature(note, key)
    return f"{closed.digest().hex()}, signed by {closed.provider} and {closed.consumer}"


def _note_form(known: _Known) -> str:
    """1. The note is a checkpoint's, in its one form."""
    found = _parse_checkpoint(known, known.data)
    parties = f"{found.provider} (provider) and {found.consumer} (consumer)"
    return (
        f"{CHECKPOINT_TITLE}, {found.period} between {parties}, channel {found.channel_id.hex()};"
        f" {'; '.join(found.totals)}"
    )


_DELTA: tuple[Step[_Known], ...] = (
    ("form", (), _delta_form),
    ("leaf", (1,), _leaf),
    ("inclusion", (2,), _delta_inclusion),
    ("keys", (1,), _delta_keys),
    ("signatures", (4,), _delta_signatures),
)
_WITNESSES: tuple[Step[_Known], ...] = (("witnesses", (5,), _delta_witnesses),)
_LINE: tuple[Step[_Known], ...] = (
    ("form", (), _line_form),
    ("line", (1,), _line),
    ("inclusion", (2,), _line_inclusion),
    ("keys", (1,), _closing_keys),
    ("signatures", (4,), _closing_signatures),
)
_NOTE: tuple[Step[_Known], ...] = (
    ("form", (), _note_form),
    ("keys", (1,), _closing_keys),
    ("signatures", (2,), _closing_signatures),
)
