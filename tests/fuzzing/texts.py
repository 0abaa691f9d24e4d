"""Targets for signed texts and what is written like them: notes, heads, proofs, checkpoints, keys,
quantities, periods and times.
"""

from __future__ import annotations

from contextlib import suppress

import builders

from fuzzing.contract import attempt, text_of
from tallystick.node.importing.times import parse_time
from tallystick.protocol.checkpoint import parse_checkpoint, verify_checkpoint
from tallystick.protocol.errors import (
    FormatError,
    InputError,
    PeriodError,
    ProofError,
    QuantityError,
)
from tallystick.protocol.heads import head_text, parse_head, parse_head_note
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import parse_vkey
from tallystick.protocol.line_proof import TITLE as LINE_TITLE
from tallystick.protocol.line_proof import format_line_proof, parse_line_proof, verify_line_proof
from tallystick.protocol.notes import (
    format_note,
    parse_note,
    verify_note_cosignature,
    verify_note_signature,
)
from tallystick.protocol.periods import FORMS, Calendar
from tallystick.protocol.proof import format_proof, parse_proof, verify_proof
from tallystick.protocol.quantities import format_quantity, parse_quantity
from tallystick.protocol.records import TIME_MAX_US
from tallystick.protocol.statement import encode_line

CHANNEL = builders.busy_channel()
RING = Keyring(CHANNEL.terms)
LOG, COSIGNER = RING.log_vkeys("provider")[0], RING.cosigner_vkeys("consumer")[0]
LINE = encode_line(CHANNEL.closed[0].lines[0])
CALENDARS = [
    Calendar(kind, zone)
    for kind in FORMS
    for zone in ("Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "UTC")
]
REFUSED = (FormatError, ProofError)


def notes(data: bytes) -> None:
    """A signed note of anyone's."""
    note = attempt(FormatError, parse_note, data)
    if note is not None:
        assert format_note(note) == data
        attempt(ProofError, verify_note_signature, note, LOG)
        attempt(ProofError, verify_note_cosignature, note, COSIGNER)


def heads(data: bytes) -> None:
    """A head's text, and a head's note."""
    with suppress(UnicodeDecodeError):
        head = attempt(FormatError, parse_head, data.decode())
        if head is not None:
            assert head_text(head).encode() == data
    attempt(REFUSED, parse_head_note, data, LOG, COSIGNER)


def proofs(data: bytes) -> None:
    """A delta's tlog-proof; a zero byte parts it from the leaf's data."""
    file, _, leaf = data.partition(b"\0")
    proof = attempt(FormatError, parse_proof, file)
    if proof is not None:
        assert format_proof(proof.index, proof.path, proof.note) == file
        attempt(REFUSED, verify_proof, proof, leaf, LOG, COSIGNER)


def line_proofs(data: bytes) -> None:
    """A line's proof; a zero byte parts it from the line, which is a known one without."""
    file, _, line = data.partition(b"\0")
    proof = attempt(FormatError, parse_line_proof, file)
    if proof is not None:
        assert file.startswith(LINE_TITLE.encode())
        assert format_line_proof(proof.index, proof.path, proof.note) == file
        attempt(REFUSED, verify_line_proof, file, line or LINE, RING)


def checkpoints(data: bytes) -> None:
    """A checkpoint's text, and its note."""
    note = attempt(FormatError, parse_note, data)
    text = data.decode(errors="replace") if note is None else note.text
    checkpoint = attempt(FormatError, parse_checkpoint, text)
    if checkpoint is not None:
        assert checkpoint.text() == text
        checkpoint.digest()
    attempt(REFUSED, verify_checkpoint, data, RING)


def vkeys(data: bytes) -> None:
    """A verifier key."""
    vkey = attempt(FormatError, parse_vkey, text_of(data))
    if vkey is not None:
        assert str(vkey).encode() == data


def quantities(data: bytes) -> None:
    """A decimal; the first byte is the scale."""
    scale = data[0] % 19 if data else 0
    value = attempt(QuantityError, parse_quantity, text_of(data[1:]), scale)
    if value is not None:
        assert parse_quantity(format_quantity(value, scale), scale) == value


def periods(data: bytes) -> None:
    """A period's label; the first byte chooses the calendar."""
    calendar = CALENDARS[data[0] % len(CALENDARS)] if data else CALENDARS[0]
    label = text_of(data[1:])
    period = attempt(PeriodError, calendar.parse, label)
    if period is not None:
        assert period.label == label
        assert calendar.period_of(period.start_us) == period
        assert calendar.period_of(period.end_us - 1) == period
        assert calendar.period_of(period.end_us).start_us == period.end_us


def zones(data: bytes) -> None:
    """A time zone's name."""
    calendar = attempt(PeriodError, Calendar, "day", text_of(data))
    if calendar is not None:
        for instant_us in (0, 1_790_805_600_000_000, TIME_MAX_US):
            period = calendar.period_of(instant_us)
            assert period.start_us <= instant_us < period.end_us


def times(data: bytes) -> None:
    """A time in an export; the first byte chooses between ISO 8601 and an epoch's unit."""
    unit = (None, None, None, "s", "ms", "us", "ns")[data[0] % 7] if data else None
    zone = ("UTC", "Europe/Berlin", "Pacific/Apia")[data[0] % 3] if data else "UTC"
    instant_us = attempt(InputError, parse_time, text_of(data[1:]), zone, unit)
    assert instant_us is None or 0 <= instant_us <= TIME_MAX_US
