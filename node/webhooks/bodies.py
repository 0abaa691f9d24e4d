"""What is sent for an event: one body, or several for who asked for the hosted client's kinds.

`steps` says in which order. A batch of co-signed records is one event here; for an endpoint that
named `delta.verified` it is made into one body a delta, when it is sent and not before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from tallystick.node.api.pacspace.customers import Customers
from tallystick.node.api.pacspace.entries import told
from tallystick.node.api.pacspace.ids import receipt_id, record_id
from tallystick.node.api.pacspace.numbers import json_number
from tallystick.node.channel import Channel
from tallystick.node.feed.events import Event, iso, name_of
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Delta, Record

VERIFIED, COMMITTED = "delta.verified", "record.committed"
RECORDS_SHOWN_MAX = 100  # ids in one record.committed; itemCount says how many there are

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Body:
    """A body and its names."""

    id: str
    event: str
    data: bytes


def all_steps(event: Event) -> tuple[str, ...]:
    """What could be sent for an event, in order."""
    if event.kind == "delta.cosigned" and event.data["ours"]:
        return ("delta.verified", "record.committed", "delta.cosigned")
    if event.kind == "delta.unplaced":
        return ("delta.failed", "delta.unplaced")
    return (event.kind,)


def wanted(event: Event, kinds: Set[str]) -> bool:
    """Whether anything is to be sent for an event to who asked for these kinds."""
    return not kinds.isdisjoint(all_steps(event))


def body_of(
    step: str, event: Event, channel: Channel | None, customers: Customers, tenant: str
) -> Body:
    """The body of a step that is one body."""
    match step:
        case "delta.failed":
            data = _failed(event, channel, customers)
            return _made(_name(step, event.id), step, event, tenant, data)
        case _:
            data = {
                **event.data,
                "channel": event.channel.hex() or None,
                "peer": event.peer or None,
                "cursor": event.cursor,
                "said": event.said,
            }
            return _made(event.id, step, event, tenant, data)


def verified_bodies(
    event: Event,
    first: int,
    records: Sequence[Record],
    channel: Channel,
    customers: Customers,
    tenant: str,
) -> Iterator[tuple[int, Body]]:
    """A body for each delta among these records of our log from index `first` on, by index."""
    meters = {meter.name: meter for meter in channel.terms.meters}
    for index, record in enumerate(records, first):
        if isinstance(record, Delta):
            meter = meters[record.meter]
            quantity = format_quantity(record.quantity, meter.scale)
            id = _name("delta.verified", event.channel.hex(), str(index))
            data = {
                **told(customers, channel, index, record),
                "verificationReference": event.data["root"],
                "blockTimestamp": event.data["cosigned_at"],
                "meter": record.meter,
                "subject": record.subject,
                "quantity": quantity,
                "unit": meter.unit,
                "occurredAt": iso(record.occurred_at),
            }
            yield index, _made(id, "delta.verified", event, tenant, data)


def committed_body(event: Event, records: Sequence[Record], channel: Channel, tenant: str) -> Body:
    """The body of what is co-signed at once; `records` are the first of it."""
    start, stop, role = event.data["from"], event.data["to"], channel.own.role
    names = [
        record_id(channel.id, role, record.meter, record.id)
        if isinstance(record, Delta)
        else receipt_id(channel.id, role, index)
        for index, record in enumerate(records, start)
    ]
    data = {
        "receiptId": receipt_id(channel.id, role, stop - 1),
        "status": "VERIFIED",
        "verifiedAt": event.data["cosigned_at"],
        "verificationId": event.data["root"],
        "itemCount": stop - start,
        "records": names,
        "verification": {
            "channel": event.channel.hex(),
            "log": event.data["log"],
            "from": start,
            "to": stop,
            "root": event.data["root"],
        },
    }
    return _made(_name(COMMITTED, event.id), COMMITTED, event, tenant, data)


def _failed(event: Event, channel: Channel | None, customers: Customers) -> dict[str, Any]:
    data = event.data
    found = {
        "recordId": f"{event.channel.hex()[:16]}.unplaced:{data['number']}",
        "customerId": event.peer,
        "error": data["reason"],
        "failedAt": iso(event.at_us),
    }
    if channel is not None and "quantity" in data:
        customer = customers.of_usage(channel.id, data["meter"], data["subject"])
        amount = Decimal(data["quantity"]) * (customer.sign if customer else 1)
        found |= {
            "recordId": record_id(channel.id, channel.own.role, data["meter"], data["id"]),
            "customerId": customer.id if customer else event.peer,
            "delta": json_number(amount),
            "referenceId": data["id"],
        }
    return found


def _made(id: str, step: str, event: Event, tenant: str, data: dict[str, Any]) -> Body:
    document = {
        "id": id,
        "event": step,
        "tenantId": tenant,
        "createdAt": iso(event.at_us),
        "data": data,
    }
    return Body(id, step, _encode(document))


def _name(*parts: str) -> str:
    return name_of(hashlib.sha256("\0".join(parts).encode()).digest()[:16])
