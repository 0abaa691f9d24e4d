"""Deriving a balance, and comparing two claims with it.

A balance is the starting balance and all that is co-signed in the scope: a month, dates, or all
that came after a checkpoint. It is by when usage occurred, so what is late counts in its own month.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.customers import Customer
from tallystick.node.api.pacspace.entries import entry
from tallystick.node.api.pacspace.fields import Fields
from tallystick.node.api.pacspace.ids import receipt_id
from tallystick.node.api.pacspace.numbers import add, json_number, parse_number, scaled, take
from tallystick.node.api.pacspace.scopes import (
    NAMES,
    Scope,
    current_month,
    parse_scope,
    refuse_mixed,
)
from tallystick.node.api.pacspace.starting import find_start
from tallystick.node.api.pacspace.sums import (
    Counted,
    Since,
    ask,
    count,
    count_since,
    newest,
    settled,
)
from tallystick.node.api.pacspace.wire import bad
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.protocol.records import Delta


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a balance is asked of: a scope, or all since a starting point."""

    scope: Scope | None
    since: Since | None

    def has(self, index: int, delta: Delta) -> bool:
        """Whether a delta counts."""
        if self.scope is not None:
            return self.scope.start_us <= delta.occurred_at < self.scope.end_us
        if self.since is None:
            return True
        bound = self.since.end_us
        return index >= self.since.size or (bound is not None and delta.occurred_at >= bound)

    def count(self, customer: Customer, channel: Channel, size: int, budget: int) -> Counted:
        """What counts among the first `size` records."""
        counted = count(customer, channel, size, self.scope, budget)
        if self.since is not None:
            counted = counted - count_since(customer, channel, self.since, budget)
        return counted


def what_is_wanted(call: Call, customer: Customer, values: Mapping[str, str]) -> Wanted:
    """What a request asks for: no scope means this month in UTC."""
    start = values.get("startingCheckpoint")
    if start is not None:
        refuse_mixed(values)
        return Wanted(None, find_start(call, customer, start))
    return Wanted(parse_scope(values, call.now_us) or current_month(call.now_us), None)


async def derive(call: Call) -> object:
    """GET /derive/{customerId}."""
    limit, offset = call.page()
    customer = call.customers.find(call.ids[0])
    start = parse_number(call.query.get("startingBalance", "0"), "startingBalance")
    wanted = what_is_wanted(call, customer, call.query)
    await settled(customer, call.customers.opened(customer)[0])

    def question(channel: Channel, closer: Closer, budget: int) -> dict[str, Any]:
        log = customer.log(channel)
        size = log.cosigned_size
        counted = wanted.count(customer, channel, size, budget)
        found = newest(customer, channel, size, wanted.has, offset, limit, budget)
        balance = add(start, scaled(counted.total, customer.meter.scale))
        document: dict[str, Any] = {
            "customerId": customer.id,
            "computedBalance": json_number(balance),
            "deltasCount": counted.deltas,
            "startingBalance": json_number(start),
            "latestReceiptId": receipt_id(channel.id, log.role, size - 1) if size else None,
            "unit": customer.meter.unit,
            "meter": customer.meter.name,
            "deltas": [
                entry(call.customers, channel, log, index, delta, customer, quantity)
                for index, delta, quantity in found
            ],
            "pagination": {"total": counted.deltas, "limit": limit, "offset": offset},
        }
        if wanted.scope is not None:
            return document | wanted.scope.document()
        return document | {"startingCheckpoint": call.query["startingCheckpoint"]}

    return await ask(call.world, customer.key, question)


async def compare(call: Call) -> object:
    """POST /compare. A mismatch is an answer, and nothing is tolerated in it."""
    fields = Fields.read(call.body)
    customer = call.customers.find(fields.needed_text("customerId", 128))
    claims = {name: fields.number(name) for name in ("yourBalance", "theirBalance")}
    for name, claim in claims.items():
        if claim is None:
            raise bad(f"{name} is missing")
    start = fields.number("startingBalance") or Decimal()
    values = {}
    for name in (*NAMES, "startingCheckpoint"):
        text = fields.text(name, 256)
        if text is not None:
            values[name] = text
    wanted = what_is_wanted(call, customer, values)
    await settled(customer, call.customers.opened(customer)[0])

    def question(channel: Channel, closer: Closer, budget: int) -> Counted:
        size = customer.log(channel).cosigned_size
        return wanted.count(customer, channel, size, budget)

    counted = await ask(call.world, customer.key, question)
    balance = add(start, scaled(counted.total, customer.meter.scale))
    yours, theirs = (claim or Decimal() for claim in claims.values())
    document: dict[str, Any] = {
        "customerId": customer.id,
        "computedBalance": json_number(balance),
        "deltasCount": counted.deltas,
        "startingBalance": json_number(start),
        "yourBalance": json_number(yours),
        "theirBalance": json_number(theirs),
        "matchesYours": yours == balance,
        "matchesTheirs": theirs == balance,
        "differenceYours": json_number(take(yours, balance)),
        "differenceTheirs": json_number(take(theirs, balance)),
        "unit": customer.meter.unit,
    }
    return document | (wanted.scope.document() if wanted.scope else {})
