"""The customers, how much one may still emit, and whether anything is missing."""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from typing import Any

from tallystick.node.api.pacspace.calls import PAGE, PAGE_MAX, Call
from tallystick.node.api.pacspace.customers import Customer
from tallystick.node.api.pacspace.entries import entry
from tallystick.node.api.pacspace.numbers import json_number, scaled
from tallystick.node.api.pacspace.scopes import parse_month
from tallystick.node.api.pacspace.sums import Counted, ask, count, count_all, newest, settled
from tallystick.node.api.pacspace.wire import Refusal, bad
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.logs import ChannelLog
from tallystick.node.store.source import batches
from tallystick.protocol.records import Delta, batch_count

UNLIMITED = 2**53 - 1  # the largest number that every client can count with
SEQUENCE_MAX = 2**62


async def show_list(call: Call) -> object:
    """GET /customers."""
    limit, page = call.whole("limit", PAGE, 1, PAGE_MAX), call.whole("page", 1, 1, 2**40)
    search = call.query.get("search", "").lower()
    ids = [id_ for id_ in call.customers.ids() if search in id_.lower()]
    rows: dict[str, dict[str, Any]] = {}
    by_channel: dict[bytes, list[Customer]] = {}
    for id_ in ids[(page - 1) * limit : page * limit]:
        rows[id_] = {"customerId": id_, "state": "unmapped"}
        try:
            customer = call.customers.find(id_)
        except Refusal as refusal:
            rows[id_]["problem"] = refusal.message
        else:
            rows[id_] = _named(call, customer)
            by_channel.setdefault(customer.key, []).append(customer)
    for key, customers in by_channel.items():
        counted = await ask(call.world, key, partial(count_all, customers))
        for customer, one in zip(customers, counted, strict=True):
            rows[customer.id] |= _counted(customer, one)
    return {
        "customers": list(rows.values()),
        "pagination": {
            "total": len(ids),
            "limit": limit,
            "page": page,
            "totalPages": -(-len(ids) // limit),
        },
    }


def _named(call: Call, customer: Customer) -> dict[str, Any]:
    return {
        "customerId": customer.id,
        "displayName": customer.id,
        "party": customer.peer,
        "state": "halted" if call.customers.halted(customer.key) else "open",
        "channel": customer.key.hex(),
        "meter": customer.meter.name,
        "unit": customer.meter.unit,
        "subject": customer.subject,
    }


def _counted(customer: Customer, counted: Counted) -> dict[str, Any]:
    return {
        "computedBalance": json_number(scaled(counted.total, customer.meter.scale)),
        "totalDeltas": counted.deltas,
    }


async def show(call: Call) -> object:
    """GET /customers/{customerId}: the balance of all time; its activity, of a month if asked."""
    customer = call.customers.find(call.ids[0])
    limit = call.whole("deltaLimit", PAGE, 1, PAGE_MAX)
    page = call.whole("deltaPage", 1, 1, 2**40)
    period = call.query.get("period")
    scope = None if period is None else parse_month(period)
    await settled(customer, call.customers.opened(customer)[0])

    def wanted(index: int, delta: Delta) -> bool:
        return scope is None or scope.start_us <= delta.occurred_at < scope.end_us

    def question(channel: Channel, closer: Closer, budget: int) -> dict[str, Any]:
        log = customer.log(channel)
        size = log.cosigned_size
        every = count(customer, channel, size, None, budget)
        active = every if scope is None else count(customer, channel, size, scope, budget)
        found = newest(customer, channel, size, wanted, (page - 1) * limit, limit, budget)
        document = _counted(customer, every) | {
            "recentActivity": {
                "items": [
                    entry(call.customers, channel, log, index, delta, customer, quantity)
                    for index, delta, quantity in found
                ],
                "pagination": {"total": active.deltas, "limit": limit, "page": page},
            }
        }
        if scope is not None:
            balance = json_number(scaled(active.total, customer.meter.scale))
            document |= {"period": period, "periodBalance": balance}
        return document

    return _named(call, customer) | await ask(call.world, customer.key, question)


async def usage(call: Call) -> object:
    """GET /usage: nothing is metered here, so there is always as much left."""
    return {"allowed": True, "remaining": UNLIMITED, "unlimited": True}


async def gaps(call: Call) -> object:
    """GET /gaps/{customerId}: sequence numbers are places in a log, so the log is looked at."""
    customer = call.customers.find(call.ids[0])
    first = call.whole("fromSequence", 0, 0, SEQUENCE_MAX)
    last = call.whole("toSequence", SEQUENCE_MAX, 0, SEQUENCE_MAX)
    limit = call.whole("limit", PAGE, 1, PAGE_MAX)
    if first > last:
        raise bad("fromSequence must not be after toSequence")

    def question(channel: Channel, closer: Closer, budget: int) -> dict[str, Any]:
        log = customer.log(channel)
        stop = min(last + 1, log.durable_size)
        missing: list[dict[str, str]] = []
        at = first
        for start, size in _batches(log, first, stop):
            if start > at:
                missing.append({"fromSequence": str(at), "toSequence": str(start - 1)})
            at = max(at, start + size)
        if at < stop:
            missing.append({"fromSequence": str(at), "toSequence": str(stop - 1)})
        return {
            "customerId": customer.id,
            "gaps": missing[:limit],
            "totalGaps": len(missing),
            "fromSequence": str(first),
            "toSequence": str(max(stop - 1, first)),
            "complete": not missing,
        }

    return await ask(call.world, customer.key, question)


def _batches(log: ChannelLog, start: int, stop: int) -> list[tuple[int, int]]:
    """The first index and the size of every batch that has a record from `start` to `stop`."""
    with log.store.read() as txn:
        found = takewhile(lambda one: one[0] < stop, batches(txn, log.number, start))
        return [(first, batch_count(batch)) for first, batch in found]
