"""What people want to say of a dispute, made into the records that say it, checked before they are.

The command line, the HTTP interface and the console ask alike: amounts and names as text, the
reason in words. What comes back is the record as it will be signed, its time left open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tallystick.node import disputing
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.disputing import PEPPOL_CODES, Sayable, scale_of
from tallystick.protocol.disputes import Standing
from tallystick.protocol.errors import InputError
from tallystick.protocol.quantities import format_quantity, parse_quantity
from tallystick.protocol.records import Answer, Dispute, Resolution, Withdrawal, encode_record
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
        drafted = disputing.draft_of_line(channel, claim.line, claim.amount)
    else:
        drafted = disputing.draft_of_records(channel, claim.records, claim.amount)
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
    disputing.check_amount(channel, closer, record)
    return record


def answer_of(channel: Channel, one: Standing, reply: Reply) -> Answer:
    """The answer of a reply; `InputError` if it is not for us to say, or concedes too much."""
    ours = one.role == channel.role
    short = one.digest.hex()[: disputing.NAME_LENGTH]
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
    named = disputing.named_records(channel, reply.records)
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
