"""Proofs: the receipt of a customer, and the proof of an invoice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.node import proving
from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.customers import Customer, calendar_of
from tallystick.node.api.pacspace.entries import entry
from tallystick.node.api.pacspace.ids import closed_id, receipt_id
from tallystick.node.api.pacspace.numbers import json_number, scaled
from tallystick.node.api.pacspace.scopes import (
    Scope,
    current_month,
    instant,
    parse_scope,
)
from tallystick.node.api.pacspace.snapshots import remember
from tallystick.node.api.pacspace.sums import (
    Counted,
    ask,
    by_period,
    count,
    newest,
    settled,
)
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.logs import ChannelLog
from tallystick.node.store.keyspace import CheckpointRow, SnapshotRow

RECEIPT_DELTAS = 1000  # the newest; the counts are of all


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof root stands for: closed periods, the last of which is `label`, or a head."""

    root: bytes
    label: str
    size: int
    counted: Counted
    payable: Counted | None = None
    labels: Sequence[str] = ()


async def prove(call: Call, customer: Customer, scope: Scope | None) -> Proved:
    """What proves a scope, all time if there is none: closed periods if they are it, else the
    newest co-signed head.
    """

    def question(channel: Channel, closer: Closer, budget: int) -> Proved:
        if scope is not None:
            rows = closed_rows(channel, closer, scope)
            if rows:
                billed = call.closed.billed(customer, channel, rows)
                labels = [row.period for row in rows]
                return Proved(rows[-1].digest, labels[-1], 0, *billed, labels)
        size = customer.log(channel).cosigned_size
        counted = count(customer, channel, size, scope, budget)
        return Proved(root_of(customer.log(channel), size), "", size, counted)

    return await ask(call.world, customer.key, question)


def root_of(log: ChannelLog, size: int) -> bytes:
    """The root of the head of a size; empty if there is none."""
    with log.store.read() as txn:
        row = log.head_row(txn, size)
    return row.root if row else b""


def closed_rows(channel: Channel, closer: Closer, scope: Scope) -> list[CheckpointRow]:
    """The checkpoints of the periods that make up a scope, if all of it is closed."""
    calendar = calendar_of(channel)
    last = closer.last
    if last is None or last.end_us < scope.end_us or not scope.fits(calendar):
        return []
    return [
        row
        for row in closer.rows
        if row.end_us <= scope.end_us and calendar.parse(row.period).start_us >= scope.start_us
    ]


async def give(
    call: Call, customer: Customer, scope: Scope | None, proved: Proved, extras: bytes | None
) -> SnapshotRow:
    """Keep what is given out, so that its root can be verified; `extras` if as a checkpoint."""
    row = SnapshotRow(
        b"" if proved.label else proved.root,
        customer.key,
        customer.id,
        scope.name if scope else "",
        proved.label,
        customer.role,
        proved.size,
        str(scaled(proved.counted.total, customer.meter.scale)),
        proved.counted.deltas,
        call.now_us,
        extras is not None,
        extras or b"",
    )
    # Closed periods are looked up where they are kept, unless something was said of them here.
    if (extras is None) if proved.label else not proved.root:
        return row
    return await remember(call.world.node.books.store, row)


def links(call: Call, root: bytes) -> dict[str, str | None]:
    """Where a root can be verified."""
    if not root:
        return {"proofRoot": None, "verifyUrl": None, "verificationApiUrl": None}
    api = f"{call.base_url}/api/v1/verify/{root.hex()}"
    return {
        "proofRoot": root.hex(),
        "verifyUrl": f"{call.base_url}/verify?root={root.hex()}",
        "verificationApiUrl": api,
    }


async def invoice(call: Call) -> object:
    """GET /invoice-proof/{customerId}."""
    customer = call.customers.find(call.ids[0])
    scope = parse_scope(call.query, call.now_us) or current_month(call.now_us)
    await settled(customer, call.customers.opened(customer)[0])
    proved = await prove(call, customer, scope)
    row = await give(call, customer, scope, proved, None)
    scale = customer.meter.scale
    document = scope.document() | {
        "customerId": customer.id,
        **links(call, proved.root),
        "accessHint": None,
        "customerLinkUrl": None,
        "customerLinkHost": None,
        "final": bool(proved.label),
        "deltasCount": proved.counted.deltas,
        "computedBalance": json_number(scaled(proved.counted.total, scale)),
        "payable": proved.payable and json_number(scaled(proved.payable.total, scale)),
        "unit": customer.meter.unit,
        "generatedAt": instant(row.created_us),
        "checkpointId": checkpoint_id(customer, proved),
    }
    channel = f"{call.base_url}/v1/channels/{customer.key.hex()}"
    return document | {
        "bundleUrls": [f"{channel}/bundles/{label}" for label in proved.labels],
        "statementUrls": [f"{channel}/statements/{label}.pdf" for label in proved.labels],
    }


def checkpoint_id(customer: Customer, proved: Proved) -> str | None:
    """The id by which a later balance can start here."""
    if proved.label:
        return closed_id(customer.key, proved.label)
    return receipt_id(customer.key, customer.role, proved.size - 1) if proved.size else None


async def receipt(call: Call) -> object:
    """GET /receipt/{customerId}: all time, not the month."""
    customer = call.customers.find(call.ids[0])
    await settled(customer, call.customers.opened(customer)[0])
    proved = await prove(call, customer, None)
    await give(call, customer, None, proved, None)

    def question(channel: Channel, closer: Closer, budget: int) -> dict[str, Any]:
        log, size, scale = customer.log(channel), proved.size, customer.meter.scale
        found = newest(customer, channel, size, lambda *_: True, 0, RECEIPT_DELTAS, budget)
        calendar = calendar_of(channel)
        periods = [
            (calendar.period_of(start), counted)
            for start, counted in by_period(customer, channel, size, budget)
        ]
        return {
            "customerId": customer.id,
            "generatedAt": instant(call.now_us),
            "receiptId": checkpoint_id(customer, proved),
            "deltasCount": proved.counted.deltas,
            "finalBalance": json_number(scaled(proved.counted.total, scale)),
            "unit": customer.meter.unit,
            "deltas": [
                entry(call.customers, channel, log, index, delta, customer, quantity)
                for index, delta, quantity in found
            ],
            "windowSummaries": [
                {
                    "period": period.label,
                    "windowStart": instant(period.start_us),
                    "windowEnd": instant(period.end_us),
                    "deltasCount": counted.deltas,
                    "netChange": json_number(scaled(counted.total, scale)),
                }
                for period, counted in periods
            ],
            "verification": links(call, proved.root) | {"head": head_note(log, size)},
        }

    return await ask(call.world, customer.key, question)


def head_note(log: ChannelLog, size: int) -> str | None:
    """The signed note of a head, which anybody can check offline with both parties' keys."""
    if not size:
        return None
    with log.store.read() as txn:
        return proving.signed_head(log, txn, size).decode()
