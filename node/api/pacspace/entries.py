"""A delta as this interface shows it: what the client said, where it stands, and how sure it is."""

from __future__ import annotations

from typing import Any

from tallystick.node.api.pacspace.customers import Customer, Customers
from tallystick.node.api.pacspace.ids import receipt_id, record_id
from tallystick.node.api.pacspace.notes import note_of
from tallystick.node.api.pacspace.numbers import json_number, scaled
from tallystick.node.api.pacspace.scopes import instant
from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.protocol.records import Delta
from tallystick.protocol.terms import meter_named


def status_of(log: ChannelLog, index: int, halted: str) -> str:
    """Whether the peer has signed for a record: `VERIFIED` never changes again."""
    if index < log.cosigned_size:
        return "VERIFIED"
    return "FAILED" if halted else "QUEUED"


def entry(
    customers: Customers,
    channel: Channel,
    log: ChannelLog,
    index: int,
    delta: Delta,
    customer: Customer | None,
    quantity: int | None,
) -> dict[str, Any]:
    """A delta of a log. `customer` is whose it is if that is known; `quantity` is as corrected."""
    note = note_of(log, delta)
    halted = customers.halted(channel.id)
    status = status_of(log, index, halted)
    sign = note.sign if note else customer.sign if customer else 1
    meter = meter_named(channel.terms, delta.meter)
    document: dict[str, Any] = {
        "recordId": record_id(channel.id, log.role, delta.meter, delta.id),
        "status": status,
        "receiptId": receipt_id(channel.id, log.role, index) if status == "VERIFIED" else None,
        "customerId": note.customerId if note else customer.id if customer else None,
        "delta": json_number(scaled(sign * delta.quantity, meter.scale)),
        "reason": note.reason if note else None,
        "referenceId": note.referenceId if note else delta.id,
        "createdAt": instant(delta.recorded_at),
        "sequenceNumber": str(index),
        "metadata": note.metadata if note else None,
        "meter": delta.meter,
        "unit": meter.unit,
        "subject": delta.subject,
    }
    if note and bytes(note.adjusts) != b"null":
        document["adjusts"] = note.adjusts
    if quantity != delta.quantity:
        document["correctedDelta"] = (
            None if quantity is None else json_number(scaled(sign * quantity, meter.scale))
        )
    if status == "FAILED":
        document["error"] = f"the channel is halted: {halted}"
    return document


def told(customers: Customers, channel: Channel, index: int, delta: Delta) -> dict[str, Any]:
    """What a webhook says of a co-signed delta of our log: as an emit says it."""
    customer = None
    if delta.attributes is None:  # nobody said whose it is
        customer = customers.of_usage(channel.id, delta.meter, delta.subject)
    shown = entry(customers, channel, channel.own, index, delta, customer, delta.quantity)
    names = ("recordId", "customerId", "delta", "sequenceNumber", "referenceId")
    receipt = receipt_id(channel.id, channel.own.role, index)
    return {name: shown[name] for name in names} | {"receiptId": receipt}
