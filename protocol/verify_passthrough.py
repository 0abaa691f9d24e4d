"""Verify a passthrough proof, or a seal and the proof behind it.

What is proved: every line is in a statement that both parties of its channel signed, and what one
party sold in some channels is what it bought in another, in the same time. Neither file names keys,
as proofs of single lines do not, so the keys that are expected come beside it. It is not proved
that nothing else was sold out of the same purchase: whoever needs that is shown all channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.protocol.checkpoint import Checkpoint, check_signers, format_instant
from tallystick.protocol.checks import Check, Step, run_checks
from tallystick.protocol.errors import FormatError, ProofError
from tallystick.protocol.keys import ED25519_NOTE, Vkey, origin
from tallystick.protocol.merkle import leaf_hash, verify_inclusion
from tallystick.protocol.notes import verify_note_signature
from tallystick.protocol.passthrough_proof import (
    SEAL_TITLE,
    TITLE,
    Direction,
    PassthroughProof,
    Section,
    parse_passthrough,
    proof_digest,
)
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.spans import period_named
from tallystick.protocol.statement import Line, decode_line

PLACES_MAX = 18  # of a quantity: no meter has more


@dataclass
class _Known:
    """What was handed over, and what the checks have established so far."""

    data: bytes
    behind: bytes | None  # a seal's proof
    expected: Sequence[Vkey]
    file: PassthroughProof | None = None
    lines: dict[Direction, list[Line]] | None = None
    keys: tuple[tuple[Section, Vkey], ...] = ()

    @property
    def sections(self) -> tuple[Section, ...]:
        """Those of the file; check 1 has read it."""
        assert self.file is not None
        return self.file.sections


def verify_passthrough(data: bytes, expected: Sequence[Vkey]) -> list[Check]:
    """Run the eight checks on a proof."""
    return list(run_checks(_Known(data, None, expected), _PROOF))


def verify_seal(data: bytes, proof: bytes | None, expected: Sequence[Vkey]) -> list[Check]:
    """Run the eight checks on a seal and the proof behind it, if it was handed over."""
    return list(run_checks(_Known(data, proof, expected), _SEAL))


def _form(known: _Known) -> str:
    """1. The file is in its one form."""
    file = known.file = parse_passthrough(known.data)
    counts = [
        f"{sum(len(section.lines) for section in file.of(direction))} {direction}"
        for direction in _DIRECTIONS
        if file.of(direction)
    ]
    title = SEAL_TITLE if file.proof else TITLE
    return f"{title}, {file.period}: lines {', '.join(counts)}"


_DIRECTIONS: tuple[Direction, Direction] = ("sold", "bought")


def _lines(known: _Known) -> str:
    """2. Each line is canonical, and counts in its checkpoint's period."""
    assert known.file is not None, "check 1"
    found: dict[Direction, list[Line]] = {"sold": [], "bought": []}
    for section in known.sections:
        for placed in section.lines:
            line = decode_line(placed.data)
            closed = section.checkpoint
            if line.period != closed.period:
                raise ProofError(
                    f"a line {section.direction} counts in {line.period}, not in {closed.period},"
                    " which is closed"
                )
            found[section.direction].append(line)
    known.lines = found
    shown = [_shown(direction, lines) for direction, lines in found.items() if lines]
    return "; ".join(shown)


def _shown(direction: Direction, lines: Sequence[Line]) -> str:
    """The lines of one direction in a few words."""
    subjects = list(dict.fromkeys(line.subject for line in lines))
    more = f" and {len(subjects) - 3} more" if len(subjects) > 3 else ""
    return f"{direction} {_total(lines)} {lines[0].unit} of {', '.join(subjects[:3])}{more}"


def _inclusion(known: _Known) -> str:
    """3. Each line is in the statement that its checkpoint closes."""
    for section in known.sections:
        closed = section.checkpoint
        for placed in section.lines:
            verify_inclusion(
                leaf_hash(placed.data),
                placed.index,
                closed.lines,
                placed.path,
                closed.statement_root,
            )
    lines = sum(len(section.lines) for section in known.sections)
    return f"lines that lead to the root of their statement: {lines}, all"


def _parties(known: _Known) -> str:
    """5. What was bought was bought in one channel by the party that sold; one meter a side."""
    assert known.file is not None and known.lines is not None, "checks 1 and 2"
    bought = known.file.of("bought")
    channels = {section.checkpoint.channel_id for section in bought}
    if len(channels) != 1:
        raise ProofError(f"it is bought in {len(channels)} channels; one is allowed")
    reseller = bought[0].checkpoint.consumer
    for section in known.file.of("sold"):
        if section.checkpoint.provider != reseller:
            raise ProofError(
                f"{reseller} bought it; {section.checkpoint.provider} sold what is shown"
            )
    for direction, lines in known.lines.items():
        if len({(line.meter, line.unit) for line in lines}) != 1:
            raise ProofError(f"the lines {direction} are of several meters")
    units = [lines[0].unit for lines in known.lines.values()]
    if units[0] != units[1]:
        raise ProofError(f"{units[0]} was sold, and {units[1]} was bought")
    customers = dict.fromkeys(one.checkpoint.consumer for one in known.file.of("sold"))
    seller = bought[0].checkpoint.provider
    return f"{reseller} bought from {seller} and sold to {', '.join(customers)}"


def _periods(known: _Known) -> str:
    """4. Every line counts in the period that the file names, on its parties' clocks."""
    assert known.file is not None, "check 1"
    label = known.file.period
    zone = known.sections[-1].checkpoint.time_zone  # of what was bought, if that is shown
    whole, _ = period_named(label, zone)
    bounds = f"from {format_instant(whole.start_us)} until {format_instant(whole.end_us)}"
    for section in known.sections:
        closed = section.checkpoint
        if not whole.start_us <= closed.start_us < closed.end_us <= whole.end_us:
            raise ProofError(
                f"{closed.period}, {section.direction}, is not in {label}, which is {bounds}"
            )
    return f"{label} in {zone}, {bounds}"


def _sums(known: _Known) -> str:
    """6. What was bought is what was sold."""
    assert known.lines is not None, "check 2"
    sold, bought = (_total(known.lines[direction]) for direction in _DIRECTIONS)
    if sold != bought:
        raise ProofError(f"the lines sold add up to {sold}, those bought to {bought}")
    return f"{sold} {known.lines['sold'][0].unit} on both sides"


def _total(lines: Sequence[Line]) -> str:
    """What is payable of lines, whatever their scales, without zeros at the end."""
    total = 0
    for line in lines:
        places = len(line.payable.partition(".")[2])
        if places > PLACES_MAX:
            raise FormatError(f"{line.payable[:60]!r} has {places} decimal places")
        total += parse_total(line.payable, places) * 10 ** (PLACES_MAX - places)
    return format_quantity(total, PLACES_MAX).rstrip("0").rstrip(".")


def _keys(known: _Known) -> str:
    """The keys that were expected are of the logs whose parties signed the checkpoints."""
    found: list[tuple[Section, Vkey]] = []
    missing: list[str] = []
    for section in known.sections:
        names = _names(section.checkpoint)
        check_signers(section.note, names)
        for name, signature in zip(names, section.note.signatures, strict=True):
            of_name = [k for k in known.expected if (k.name, k.kind) == (name, ED25519_NOTE)]
            if not of_name:
                missing.append(name)
                continue
            key = next((key for key in of_name if key.id == signature.key_id), of_name[0])
            found.append((section, key))
    if missing:
        raise ProofError(
            f"no expected key is of {' or '.join(dict.fromkeys(missing))}",
            "Give the verifier keys that you know to be the parties' (tally vkey shows them)",
        )
    known.keys = tuple(found)
    return "; ".join(dict.fromkeys(str(key) for _, key in found))


def _names(closed: Checkpoint) -> list[str]:
    return [origin(party, closed.channel_id) for party in (closed.provider, closed.consumer)]


def _signatures(known: _Known) -> str:
    """Both parties signed each checkpoint, by these keys."""
    for section, key in known.keys:
        verify_note_signature(section.note, key)
    return f"checkpoints that both parties of their channel signed: {len(known.sections)}, all"


def _sealed(known: _Known) -> str:
    """7, of a seal. The proof that was handed over is the one that was sealed, with these lines."""
    assert known.file is not None, "check 1"
    sealed = known.file.proof
    if known.behind is None:
        raise ProofError(
            f"what it was bought as is in another file, of the SHA-256 {sealed.hex()}",
            "Whoever may see that checks both: give it with --of",
        )
    if proof_digest(known.behind) != sealed:
        raise ProofError(
            f"the seal is on a file of the SHA-256 {sealed.hex()};"
            f" {proof_digest(known.behind).hex()} was given"
        )
    inside = {one.data: one for one in parse_passthrough(known.behind).of("sold")}
    if any(inside.get(section.data) != section for section in known.sections):
        raise ProofError("the proof behind the seal sells other lines")
    return f"the proof behind it is the one of {sealed.hex()}, and sells the same lines"


def _behind(known: _Known) -> str:
    """8, of a seal. Every check of the proof behind it holds."""
    assert known.behind is not None, "check 7"
    checks = verify_passthrough(known.behind, known.expected)
    fault = next((check for check in checks if not check.ok), None)
    if fault is not None:
        raise ProofError(f"check {fault.number} of it, {fault.name}: {fault.detail}")
    return f"its {len(checks)} checks hold; {checks[4].detail}; {checks[5].detail}"


_COMMON: tuple[Step[_Known], ...] = (
    ("form", (), _form),
    ("lines", (1,), _lines),
    ("inclusion", (2,), _inclusion),
    ("periods", (1,), _periods),
)
_PROOF: tuple[Step[_Known], ...] = (
    *_COMMON,
    ("parties", (2,), _parties),
    ("sums", (5,), _sums),
    ("keys", (1,), _keys),
    ("signatures", (7,), _signatures),
)
_SEAL: tuple[Step[_Known], ...] = (
    *_COMMON,
    ("keys", (1,), _keys),
    ("signatures", (5,), _signatures),
    ("sealed", (1,), _sealed),
    ("behind", (7,), _behind),
)
