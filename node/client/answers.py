"""What the node answers, as frozen values. Quantities are decimals as text, exact."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tallystick.client.deltas import Delta


class Receipt(Struct, frozen=True):
    """A delta is on the node's disk, at this index of its party's log. `duplicate`: it was there
    already. `cosigned`: the peer has co-signed the log up to it.
    """

    delta: Delta
    index: int
    duplicate: bool
    cosigned: bool


class Refusal(Struct, frozen=True):
    """A delta that the node did not take; `kind` is `ConflictError`, `InvalidRecord`, …"""

    delta: Delta
    kind: str
    message: str


class Emitted(Struct, frozen=True):
    """What became of several deltas: each is in one of the two, in the order in which they came."""

    receipts: tuple[Receipt, ...]
    refusals: tuple[Refusal, ...]
    recorded: int
    duplicate: int


class LogStatus(Struct, frozen=True):
    """One log: its records at the node, and how many of them are co-signed."""

    party: str
    size: int
    cosigned: int


class ChannelStatus(Struct, frozen=True):
    """How a channel stands."""

    channel: str
    peer: str
    role: str
    connected: bool
    own: LogStatus
    theirs: LogStatus
    lag_records: int
    lag_seconds: float | None
    state: str
    reason: str
    last_checkpoint: str | None


class Status(Struct, frozen=True):
    """How the node and its channels stand."""

    name: str
    channels: tuple[ChannelStatus, ...]


class Head(Struct, frozen=True):
    """A log's head."""

    party: str
    size: int
    root: str


class BalanceLine(Struct, frozen=True):
    """One line of the balance. `provider` or `consumer` is None where that side does not record."""

    period: str
    meter: str
    subject: str
    unit: str
    provider: str | None
    consumer: str | None
    payable: str
    disputed: str
    pending: str
    deltas: int
    status: str
    late_for: str | None = None


class Balance(Struct, frozen=True):
    """The balance; the digest is the same at both parties exactly when the lines are."""

    channel: str
    digest: str
    heads: tuple[Head, ...]
    lines: tuple[BalanceLine, ...]


class ClosedPeriod(Struct, frozen=True):
    """A closed period and the digest of its checkpoint."""

    period: str
    digest: str


class Checkpoint(Struct, frozen=True):
    """The checkpoint of a closed period: the note that both parties signed."""

    checkpoint: str
    digest: str
    lines: int
    signed_by: tuple[str, ...]


class Event(Struct, frozen=True):
    """Something that happened at the node; `cursor` is where to go on after it."""

    cursor: int
    id: str
    kind: str
    at: str
    channel: str | None
    peer: str | None
    said: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)
