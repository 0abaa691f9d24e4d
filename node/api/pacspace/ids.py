"""The ids that this interface gives out. Each says itself what it names, so none needs a table,
and all of them mean the same after a restart.

    record      CHANNEL.SIDE:METER:ID    a delta by what makes it unique, wherever it stands
    receipt     CHANNEL.SIDE@INDEX       everything in that log up to a co-signed record
    checkpoint  CHANNEL:PERIOD           a closed period; a receipt's id where none is closed

CHANNEL is the beginning of the channel's id in hex, SIDE is `p` or `c`, whose log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tallystick.protocol.records import Role

CHANNEL_DIGITS = 16
_SIDES: dict[str, Role] = {"p": "provider", "c": "consumer"}

_LOG = rf"([0-9a-f]{{{CHANNEL_DIGITS}}})\.([pc])"
_RECORD = re.compile(rf"{_LOG}:([a-z0-9._-]{{1,64}}):(.+)", re.DOTALL)
_RECEIPT = re.compile(rf"{_LOG}@(0|[1-9][0-9]{{0,18}})")
_PERIOD = re.compile(rf"([0-9a-f]{{{CHANNEL_DIGITS}}}):([0-9TW:+-]{{4,32}})")


@dataclass(frozen=True, slots=True)
class RecordName:
    """A delta: its channel's prefix, whose log, its meter and id."""

    channel: str
    role: Role
    meter: str
    id: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """All of a log up to and with an index."""

    channel: str
    role: Role
    index: int


@dataclass(frozen=True, slots=True)
class ClosedName:
    """A period of a channel."""

    channel: str
    label: str


def _log(channel: bytes, role: Role) -> str:
    return f"{channel.hex()[:CHANNEL_DIGITS]}.{role[0]}"


def record_id(channel: bytes, role: Role, meter: str, id: str) -> str:
    """The id of a delta."""
    return f"{_log(channel, role)}:{meter}:{id}"


def receipt_id(channel: bytes, role: Role, index: int) -> str:
    """The id of what is co-signed of a log up to and with an index."""
    return f"{_log(channel, role)}@{index}"


def closed_id(channel: bytes, label: str) -> str:
    """The id of a closed period."""
    return f"{channel.hex()[:CHANNEL_DIGITS]}:{label}"


def parse_record_id(text: str) -> RecordName | None:
    """What a record's id names; None if it is none."""
    match = _RECORD.fullmatch(text)
    return RecordName(match[1], _SIDES[match[2]], match[3], match[4]) if match else None


def parse_checkpoint_id(text: str) -> Receipt | ClosedName | None:
    """What a receipt's or a checkpoint's id names; None if it is none."""
    if match := _RECEIPT.fullmatch(text):
        return Receipt(match[1], _SIDES[match[2]], int(match[3]))
    if match := _PERIOD.fullmatch(text):
        return ClosedName(match[1], match[2])
    return None
