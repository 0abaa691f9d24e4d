"""What people want to say of a dispute, made into the records that say it, checked before they are.

The command line, the HTTP interface and the console ask alike: amounts and names as text, the
reason in words. What comes back is the record as it will be signed, its time left open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.disputing import (
    NAME_LENGTH,
    PEPPOL_CODES,
    Sayable,
    log_of,
    scale_of,
    waits_already,
)
from tallystick.node.logs import ChannelLog
from tallystick.node.queries import find_delta
from tallystick.protocol.disputes import Standing
from tallystick.protocol.errors import InputError, QuantityError
from tallystick.protocol.quantities import format_quantity, parse_quantity, parse_total
from tallystick.protocol.records import (
    INT64_MAX,
    NAMED_MAX,
    Answer,
    Delta,
    Dispute,
    Meter,
    Named,
    Resolution,
    Role,
    Withdrawal,
    encode_record,
)
from tallystick.protocol.terms import meter_named

REASON_MAX = 500  # characters

Kind = Literal["concede", "reject", "insist"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A dispute as a person files it: by records (METER/ID), or by a line (PERIOD/METER/SUBJECT)
    and an amount.
    """

    code: str
    reason: str
    records: Sequence[str] = ()
    line: str | None = None
    amount: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as a person gives it; no amount concedes all."""

    kind: Kind
    reason: str
    amount: str | None = None
    records: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Drafted:
    """A dispute that nobody has recorded yet: its line, amount (in the meter's scale), records."""

    period: str
    meter: str
    subject: str
    amount: int
    records: tuple[Named, ...]


def checked_reason(reason: str) -> str:
    """A reason that a record can hold."""
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise InputError("the reason is not UTF-8") from None
    if not 1 <= len(reason) <= REASON_MAX:
        raise InputError(f"a reason of {len(reason)} characters", f"1 to {REASON_MAX} are allowed")
    return reason


def dispute_of(channel: Channel, closer: Closer, claim: Claim) -> Dispute:
    """The dispute of a claim; `InputError` if there is no such line, or it is of too much."""
    if bool(claim.records) == (claim.line is not None):
        raise InputError(
            "say what is disputed: records (METER/ID), or a balance line with --line",
            "As in: tally dispute --line 2026-10/tokens/project-7 --amount 12 ...",
        )
    code = next((one for one in PEPPOL_CODES if one == claim.code), None)
    if code is None:
        raise InputError(
            f"there is no code {claim.code!r}", f"Say one of: {', '.join(PEPPOL_CODES)}"
        )
    if claim.line is not None:
        drafted = draft_of_line(channel, claim.line, claim.amount)
    else:
        drafted = draft_of_records(channel, claim.records, claim.amount)
    record = Dispute(
        drafted.period,
        drafted.meter,
        drafted.subject,
        drafted.amount,
        code,
        checked_reason(claim.reason),
        drafted.records,
        0,
    )
    check_amount(channel, closer, record)
    return record


def answer_of(channel: Channel, one: Standing, reply: Reply) -> Answer:
    """The answer of a reply; `InputError` if it is not for us to say, or concedes too much."""
    ours = one.role == channel.role
    short = one.digest.hex()[:NAME_LENGTH]
    if (reply.kind == "insist") != ours:
        raise InputError(
            f"dispute {short} is {'yours' if ours else 'the other side’s'}",
            "Say --insist, or: tally withdraw" if ours else "Say --concede or --reject",
        )
    scale = scale_of(meter_named(channel.terms, one.dispute.meter))
    amount = one.dispute.amount
    if reply.kind != "concede":
        conceded = 0
    elif reply.amount is None:
        conceded = amount
    else:
        # How much of it, whichever sign it has: click takes a value with a minus for an option.
        part = parse_quantity(reply.amount, scale)
        _check_part(part, abs(amount), scale, "conceded")
        conceded = part if amount > 0 else -part
    named = named_records(channel, reply.records)
    return Answer(one.digest, conceded, checked_reason(reply.reason), named, 0)


def resolution_of(channel: Channel, one: Standing, amount: str, reason: str) -> Resolution:
    """What we would settle a dispute for; `InputError` if it is no part of it."""
    scale = scale_of(meter_named(channel.terms, one.dispute.meter))
    upheld = parse_quantity(amount, scale)
    _check_part(upheld, one.dispute.amount, scale, "settled")
    return Resolution(one.digest, upheld, checked_reason(reason), 0)


def withdrawal_of(one: Standing, reason: str) -> Withdrawal:
    """The withdrawal of a dispute."""
    return Withdrawal(one.digest, checked_reason(reason), 0)


def _check_part(value: int, amount: int, scale: int, what: str) -> None:
    """Refuse what is not a part of the disputed amount."""
    low, high = sorted((0, amount))
    if not low <= value <= high:
        raise InputError(
            f"{format_quantity(value, scale)} cannot be {what} of a dispute of"
            f" {format_quantity(amount, scale)}",
            f"Say an amount from {format_quantity(low, scale)} to {format_quantity(high, scale)}",
        )


def sayable_bytes(record: Sayable) -> bytes:
    """The record's bytes; `InputError` if a text of it is not UTF-8."""
    try:
        return encode_record(record)
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object!r} is not UTF-8") from None


# Drafts


def draft_of_line(channel: Channel, line: str, amount: str | None) -> Drafted:
    """The dispute of a balance line `PERIOD/METER/SUBJECT` by an amount."""
    period, _, rest = line.partition("/")
    name, _, subject = rest.partition("/")
    if not subject:
        raise InputError(
            f"{line!r} is not a balance line", "Write PERIOD/METER/SUBJECT; see tally derive"
        )
    meter = meter_named(channel.terms, name)
    label = channel.own.folder.calendar.parse(period).label
    if amount is None:
        raise InputError(
            "how much of the line is disputed?", "Give --amount, or name the records instead"
        )
    return Drafted(label, name, subject, parse_quantity(amount, scale_of(meter)), ())


def draft_of_records(channel: Channel, names: Sequence[str], amount: str | None) -> Drafted:
    """The dispute of the line that these deltas are of; all of their quantities if no amount is
    given.
    """
    found = [pair for name in names for pair in find_delta(channel, name)]
    calendar = channel.own.folder.calendar
    lines = sorted(
        {
            (calendar.period_of(delta.occurred_at).label, delta.meter, delta.subject)
            for _, _, delta in found
        }
    )
    if len(lines) > 1:
        listed = " and ".join("/".join(line) for line in lines[:3])
        raise InputError(
            f"these records are of {len(lines)} balance lines: {listed}",
            "A dispute is of one line: file one for each, with METER/ID for each record",
        )
    records = sorted({(log.role, index) for log, index, _ in found})
    if len(records) > NAMED_MAX:
        raise InputError(
            f"{len(records)} records in one dispute; {NAMED_MAX} are allowed",
            "Dispute the line with --line and --amount, and give the list another way",
        )
    _check_placed(channel, found)
    period, name, subject = lines[0]
    meter = meter_named(channel.terms, name)
    if amount is None:
        value = _sum(channel, meter, found)
    else:
        value = parse_quantity(amount, scale_of(meter))
    named = tuple(Named(role, index) for role, index in records)
    return Drafted(period, name, subject, value, named)


def _check_placed(channel: Channel, found: Sequence[tuple[ChannelLog, int, Delta]]) -> None:
    """Refuse records of ours that are not signed: they may get another index yet."""
    for log, index, delta in found:
        if log is channel.own and index >= log.signed_size:
            raise InputError(
                f"{delta.meter}/{delta.id} is recorded, but the peer has not heard of it yet",
                "See tally status, and try again when the peer is connected",
            )


def _sum(channel: Channel, meter: Meter, found: Sequence[tuple[ChannelLog, int, Delta]]) -> int:
    """What these deltas, as they are corrected, add to what is payable."""
    if meter.aggregate == "max":
        raise InputError(
            f"{meter.name} counts the highest quantity, so records do not say how much less it is",
            "Give --amount as well",
        )
    if meter.payable == "minimum":
        sides = {log.role for log, _, _ in found}
        side: Role = channel.peer.role if channel.peer.role in sides else channel.role
    else:
        side = meter.payable
    payable = {(log.role, index): delta for log, index, delta in found if log.role == side}
    if not payable:
        raise InputError(
            f"these records are not in the log of the {side}, whose number is payable",
            "Give --amount as well; a negative one says that more should be payable",
        )
    log = log_of(channel, side)
    total = 0
    for delta in payable.values():
        now = log.effective(delta.meter, delta.id)
        if now is not None and now[1] is not None:
            total += 1 if meter.aggregate == "count" else now[1]
    if not total:
        raise InputError("nothing of these records is payable: they are voided or zero")
    return total


def check_amount(channel: Channel, closer: Closer, record: Dispute) -> None:
    """Refuse a dispute of a line that is not there, and of more than what is payable on it; but
    not one that waits already: what it is about is not payable because of itself.
    """
    if waits_already(channel, record) is not None:
        return
    scale = scale_of(meter_named(channel.terms, record.meter))
    where = f"{record.period}/{record.meter}/{record.subject}"
    lines = [
        line
        for line in closer.all_lines()
        if (line.late_for or line.period, line.meter, line.subject)
        == (record.period, record.meter, record.subject)
    ]
    if not lines:
        raise InputError(
            f"there is no balance line {where}", f"See: tally derive --period {record.period}"
        )
    if not record.amount:
        raise InputError("an amount of nothing is no dispute")
    if abs(record.amount) > INT64_MAX:
        raise QuantityError("the amount does not fit into 64 bits")
    payable = sum(parse_total(line.payable, scale) for line in lines)
    if record.amount > payable:
        raise InputError(
            f"{format_quantity(record.amount, scale)} is disputed of {where}, but only"
            f" {format_quantity(max(payable, 0), scale)} are payable there and not disputed yet",
            f"See: tally derive --period {record.period}, and tally disputes",
        )


def named_records(channel: Channel, names: Sequence[str]) -> tuple[Named, ...]:
    """The records that an answer points to, by `METER/ID`."""
    hits = [hit for name in names for hit in find_delta(channel, name)]
    _check_placed(channel, hits)
    found = {(log.role, index) for log, index, _ in hits}
    if len(found) > NAMED_MAX:
        raise InputError(f"{len(found)} records in one answer; {NAMED_MAX} are allowed")
    return tuple(Named(role, index) for role, index in sorted(found))
