"""The checkpoint: what both parties sign about a closed period, readable in an e-mail.

A C2SP signed note whose text states the channel, the period with its bounds in UTC, the checkpoint
before, both heads, the root of the statement's tree, the verdict's digest and each meter's total.
Both log keys sign it, the provider's line first. Its digest is the SHA-256 of the text, so it does
not depend on who signed first. Checkpoints from before there were verdicts have no such line.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, InvalidRecord, ProofError
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import Vkey, origin
from tallystick.protocol.notes import (
    Note,
    Signature,
    format_note,
    parse_note,
    sign_note,
    verify_note_signature,
)
from tallystick.protocol.periods import Period
from tallystick.protocol.quantities import format_quantity, parse_total
from tallystick.protocol.records import ROLES, TIME_MAX_US, Close, Role, Terms, encode_record
from tallystick.protocol.statement import Line, meter_units, statement_root

TITLE = "tallystick checkpoint v1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_MAX_US = TIME_MAX_US + 32 * 86_400_000_000  # no period of a record's time ends later


@dataclass(frozen=True, slots=True)
class LogHead:
    """How far one party's log counts in a checkpoint."""

    party: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A period's closing as both sign it. Times are microseconds since the Unix epoch, UTC."""

    channel_id: bytes
    provider: str
    consumer: str
    period: str
    time_zone: str
    start_us: int
    end_us: int
    previous: bytes  # digest of the checkpoint before, empty for the first
    terms_digest: bytes
    heads: tuple[LogHead, LogHead]  # the provider's, the consumer's
    lines: int
    statement_root: bytes
    totals: tuple[str, ...]  # "meter quantity unit", in the terms' order
    verdict: bytes  # the verdict's digest; empty in those from before there were verdicts

    @property
    def sizes(self) -> tuple[int, int]:
        """How many records it counts: of the provider's log, and of the consumer's."""
        return self.heads[0].size, self.heads[1].size

    def text(self) -> str:
        """The note's text."""
        provider, consumer = self.heads
        rows = [
            TITLE,
            f"channel {self.channel_id.hex()}",
            f"provider {self.provider}",
            f"consumer {self.consumer}",
            f"period {self.period} {self.time_zone}",
            f"from {format_instant(self.start_us)}",
            f"until {format_instant(self.end_us)}",
            f"previous {self.previous.hex() or 'none'}",
            f"terms {self.terms_digest.hex()}",
            *(f"head {h.party} {h.size} {_b64(h.root)}" for h in (provider, consumer)),
            f"statement {self.lines} {_b64(self.statement_root)}",
            *([f"verdict {_b64(self.verdict)}"] if self.verdict else []),
            *(f"total {total}" for total in self.totals),
        ]
        return "\n".join(rows) + "\n"

    def digest(self) -> bytes:
        """What the next checkpoint and the user know it by."""
        return hashlib.sha256(self.text().encode()).digest()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def format_instant(instant_us: int) -> str:
    """An instant in UTC, to the second; period bounds never need more."""
    whole = _EPOCH + timedelta(microseconds=instant_us)
    return whole.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def build_checkpoint(
    terms: Terms,
    channel_id: bytes,
    period: Period,
    previous: bytes,
    heads: tuple[LogHead, LogHead],
    lines: Sequence[Line],
    verdict: bytes,
) -> Checkpoint:
    """The checkpoint of a period's statement at these heads, with its verdict's digest."""
    return Checkpoint(
        channel_id,
        terms.provider.name,
        terms.consumer.name,
        period.label,
        terms.time_zone,
        period.start_us,
        period.end_us,
        previous,
        hashlib.sha256(encode_record(terms)).digest(),
        heads,
        len(lines),
        statement_root(lines),
        meter_totals(terms, lines),
        verdict,
    )


def like_signed(made: Checkpoint, signed: Checkpoint) -> Checkpoint:
    """What is made now, as it would have been made when `signed` was: that may have been before
    there were verdicts.
    """
    return made if signed.verdict else replace(made, verdict=b"")


def meter_totals(terms: Terms, lines: Sequence[Line]) -> tuple[str, ...]:
    """Each meter's payable total over a statement's lines, as a checkpoint says it."""
    units = meter_units(terms)
    totals = []
    for meter in terms.meters:
        scale = 0 if meter.aggregate == "count" else meter.scale
        amount = sum(parse_total(line.payable, scale) for line in lines if line.meter == meter.name)
        totals.append(f"{meter.name} {format_quantity(amount, scale)} {units[meter.name]}")
    return tuple(totals)


_TEXT = re.compile(
    re.escape(TITLE) + r"\n"
    r"channel (?P<channel>[0-9a-f]{64})\n"
    r"provider (?P<provider>\S+)\n"
    r"consumer (?P<consumer>\S+)\n"
    r"period (?P<period>\S+) (?P<zone>\S+)\n"
    r"from (?P<start>\S+)\n"
    r"until (?P<end>\S+)\n"
    r"previous (?P<previous>none|[0-9a-f]{64})\n"
    r"terms (?P<terms>[0-9a-f]{64})\n"
    r"head (?P<party_a>\S+) (?P<size_a>[0-9]{1,20}) (?P<root_a>\S+)\n"
    r"head (?P<party_b>\S+) (?P<size_b>[0-9]{1,20}) (?P<root_b>\S+)\n"
    r"statement (?P<lines>[0-9]{1,20}) (?P<root>\S+)\n"
    r"(?:verdict (?P<verdict>\S+)\n)?"
    r"(?P<totals>(?:total [^\n]+\n)+)"
)


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of this text; `FormatError` unless `text()` would write it so."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise FormatError("not a checkpoint: a line is missing, doubled or misspelt")
    f = match.groupdict()
    try:
        checkpoint = Checkpoint(
            bytes.fromhex(f["channel"]),
            f["provider"],
            f["consumer"],
            f["period"],
            f["zone"],
            _parse_instant(f["start"]),
            _parse_instant(f["end"]),
            b"" if f["previous"] == "none" else bytes.fromhex(f["previous"]),
            bytes.fromhex(f["terms"]),
            (
                LogHead(f["party_a"], int(f["size_a"]), _unb64(f["root_a"])),
                LogHead(f["party_b"], int(f["size_b"]), _unb64(f["root_b"])),
            ),
            int(f["lines"]),
            _unb64(f["root"]),
            tuple(row.removeprefix("total ") for row in f["totals"][:-1].split("\n")),
            b"" if f["verdict"] is None else _unb64(f["verdict"]),
        )
    except ValueError as error:
        raise FormatError(f"not a checkpoint: {error}") from None
    if checkpoint.text() != text:
        raise FormatError("not a checkpoint: a value is not in canonical form")
    if not checkpoint.start_us < checkpoint.end_us <= _END_MAX_US:
        raise FormatError("not a checkpoint: its period's bounds are not in order or in range")
    return checkpoint


def _parse_instant(text: str) -> int:
    whole = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (whole - _EPOCH) // timedelta(microseconds=1)


def _unb64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if len(data) != 32:
        raise ValueError(f"a root or digest of {len(data)} bytes")
    return data


def sign_checkpoint(checkpoint: Checkpoint, party: str, key: SigningKey) -> Signature:
    """One party's signature line, by its log key."""
    return sign_note(checkpoint.text(), origin(party, checkpoint.channel_id), key)


def checkpoint_note(checkpoint: Checkpoint, signatures: Sequence[Signature]) -> bytes:
    """The note with these signatures, the provider's line first."""
    first = origin(checkpoint.provider, checkpoint.channel_id)
    ordered = sorted(signatures, key=lambda signature: signature.name != first)
    return format_note(Note(checkpoint.text(), tuple(ordered)))


def verify_checkpoint(note_bytes: bytes, ring: Keyring) -> Checkpoint:
    """The checkpoint of a note that exactly both parties signed, by any key that they ever had in
    the ring; `ProofError` if they did not.
    """
    note = parse_note(note_bytes)
    checkpoint = parse_checkpoint(note.text)
    terms, channel_id = ring.terms, ring.channel_id
    if checkpoint.channel_id != channel_id:
        raise ProofError("the checkpoint is of another channel")
    parties = (terms.provider.name, terms.consumer.name)
    if (checkpoint.provider, checkpoint.consumer) != parties or parties != tuple(
        head.party for head in checkpoint.heads
    ):
        raise ProofError("the checkpoint names other parties than the terms")
    names = tuple(origin(party, channel_id) for party in parties)
    check_signers(note, names)
    for role in ROLES:
        verify_note_signature(note, _vkey_named(note, ring, role))
    return checkpoint


def check_signers(note: Note, names: Sequence[str]) -> None:
    """Refuse (`ProofError`) a note without exactly two signature lines, of these names in order."""
    if [signature.name for signature in note.signatures] != list(names) or len(names) != 2:
        raise ProofError("a checkpoint carries exactly two signatures, the provider's first")


def verify_closing(note_bytes: bytes, ring: Keyring) -> Checkpoint:
    """The same, but both must have signed by their newest log keys in the ring.

    The ring is what a log says up to its head in the checkpoint. So it does not matter when a
    checkpoint is recorded, and whoever has the log up to there knows the keys.
    """
    checkpoint = verify_checkpoint(note_bytes, ring)
    newest = [ring.log_vkeys(role)[0].id for role in ROLES]
    if [signature.key_id for signature in parse_note(note_bytes).signatures] != newest:
        raise ProofError("the checkpoint is signed by other keys than those in force at its heads")
    return checkpoint


def _vkey_named(note: Note, ring: Keyring, role: Role) -> Vkey:
    """The key of a party's that the note's signature line names; the newest if it names none."""
    vkeys = ring.log_vkeys(role)
    ids = {signature.key_id for signature in note.signatures if signature.name == vkeys[0].name}
    return next((vkey for vkey in vkeys if vkey.id in ids), vkeys[0])


def check_close(role: Role, ring: Keyring, record: Close, previous: bytes) -> bytes:
    """The digest of a valid Close's checkpoint; `InvalidRecord` if the log, which is of `role`
    and has the keys of `ring` by now, may not hold it.
    """
    try:
        head = parse_checkpoint(parse_note(record.checkpoint).text).heads[ROLES.index(role)]
        checkpoint = verify_closing(record.checkpoint, ring.at(head.size))
    except (FormatError, ProofError) as error:
        raise InvalidRecord(f"its checkpoint does not hold: {error.message}") from None
    if checkpoint.previous != previous:
        raise InvalidRecord("its checkpoint does not follow the one before it in this log")
    return checkpoint.digest()
