"""Checkpoints: of a period that is over both parties sign the statement; of one that still runs,
the head of the log. Both are proofs; only the first is final, and nothing closes before its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import trio
from msgspec import Raw

from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.customers import Customer, calendar_of
from tallystick.node.api.pacspace.fields import Fields
from tallystick.node.api.pacspace.ids import closed_id, receipt_id
from tallystick.node.api.pacspace.numbers import json_number, scaled
from tallystick.node.api.pacspace.proving import (
    Proved,
    give,
    links,
    prove,
)
from tallystick.node.api.pacspace.scopes import (
    NAMES,
    Scope,
    current_month,
    instant,
    parse_scope,
)
from tallystick.node.api.pacspace.snapshots import listed
from tallystick.node.api.pacspace.sums import Counted, TooMuch, ask, settled
from tallystick.node.api.pacspace.wire import Refusal, bad, refusal_of
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.store.keyspace import CheckpointRow, SnapshotRow
from tallystick.protocol.periods import Period

PATIENCE_SECONDS = 15  # the client gives up after 30
EXTRAS_BYTES_MAX = 16 * 1024


async def make(call: Call) -> object:
    """POST /checkpoint; without a customer, of all."""
    fields = Fields.read(call.body)
    values = {name: text for name in NAMES if (text := fields.text(name, 64)) is not None}
    scope = parse_scope(values, call.now_us) or current_month(call.now_us)
    early = fields.text("mode", 64) == "close"
    extras = _extras(fields)
    until = trio.current_time() + PATIENCE_SECONDS
    id_ = fields.text("customerId", 128)
    customers = [call.customers.find(known) for known in ([id_] if id_ else call.customers.ids())]
    made = [await _make(call, customer, scope, early, extras, until) for customer in customers]
    if id_ is not None:
        return made[0]
    if len(made) == 1:
        return made[0] | {"checkpoints": made}
    ids = [one["checkpointId"] for one in made if one["checkpointId"]]
    return {
        "customerId": None,
        "checkpointId": "+".join(dict.fromkeys(ids)) or None,
        "status": "VERIFIED" if all(one["status"] == "VERIFIED" for one in made) else "QUEUED",
        **scope.document(),
        "checkpoints": made,
    }


def _extras(fields: Fields) -> bytes:
    """What is kept with a checkpoint and shown again: the mode and the fingerprints."""
    kept = [
        b'"%s":%s' % (name.encode(), bytes(value).strip())
        for name in ("mode", "fingerprints")
        if (value := fields.checked(name)) is not None
    ]
    made = b"{" + b",".join(kept) + b"}"
    if len(made) > EXTRAS_BYTES_MAX:
        raise bad(f"fingerprints have {len(made)} bytes; {EXTRAS_BYTES_MAX} are allowed")
    return made


async def _make(
    call: Call, customer: Customer, scope: Scope, early: bool, extras: bytes, until: float
) -> dict[str, Any]:
    channel, closer = call.customers.opened(customer)
    await settled(customer, channel)
    labels = _to_close(call, channel, closer, scope, early)
    if not await _close(call, customer, labels, early, until):
        waiting = Proved(b"", labels[-1], 0, Counted(0, 0))
        row = await give(call, customer, scope, waiting, extras)
        return _document(call, customer, row, scope.document(), "QUEUED")
    proved = await prove(call, customer, scope)
    row = await give(call, customer, scope, proved, extras)
    document = _document(call, customer, row, scope.document(), "VERIFIED")
    if proved.label:  # it may have been asked for before it was closed
        place = next(n for n, one in enumerate(closer.rows) if one.period == proved.label)
        at_us = call.closed.at_us(channel, closer, place)
        document |= links(call, proved.root) | {
            "deltasCount": proved.counted.deltas,
            "computedBalance": json_number(scaled(proved.counted.total, customer.meter.scale)),
            "createdAt": document["createdAt"] if at_us is None else instant(at_us),
        }
    return document


def _to_close(call: Call, channel: Channel, closer: Closer, scope: Scope, early: bool) -> list[str]:
    """The periods that are to be closed now, in order: those of the scope with usage, and its last
    one, so that nothing can come into it any more. None before the grace time is over, unless it is
    asked for.
    """
    calendar = calendar_of(channel)
    grace_us = channel.terms.grace_seconds * 1_000_000
    if not scope.fits(calendar):
        if early:
            raise bad(
                f"{scope.name} is not made up of whole {calendar.calendar}s in"
                f" {calendar.time_zone}, which are what this channel closes"
            )
        return []
    if not early and scope.end_us + grace_us > call.now_us:
        return []
    last = closer.last
    end = calendar.period_of(min(scope.end_us - 1, max(call.now_us, scope.start_us)))
    found: dict[str, Period] = {end.label: end}
    for line in closer.open_lines():
        period = calendar.parse(line.period)
        if period.start_us >= scope.start_us and period.end_us <= scope.end_us:
            found[period.label] = period
    due = [period for period in found.values() if last is None or period.end_us > last.end_us]
    return [period.label for period in sorted(due, key=lambda period: period.start_us)]


async def _close(
    call: Call, customer: Customer, labels: Sequence[str], early: bool, until: float
) -> bool:
    """Close periods with the peer; False if that takes longer than the client waits: it goes on."""
    if not labels:
        return True
    done = trio.Event()
    failed: list[Exception] = []

    async def work() -> None:
        try:
            async with call.customers.closing(customer.key):
                for label in labels:
                    await call.world.service.checkpoint(customer.key.hex(), label, force=early)
        except Exception as error:  # noqa: BLE001 - told to who asked; it must not end the node
            failed.append(error)
        finally:
            done.set()

    call.world.nursery.start_soon(work)
    with trio.move_on_at(until):
        await done.wait()
    if failed:
        raise refusal_of(failed[0])
    return done.is_set()


def _document(
    call: Call, customer: Customer, row: SnapshotRow, scope: dict[str, object], status: str
) -> dict[str, Any]:
    """A checkpoint as answers and lists show it."""
    verified = status == "VERIFIED"
    if row.label:
        id_ = closed_id(customer.key, row.label)
    else:
        id_ = receipt_id(customer.key, customer.role, row.size - 1) if row.size else ""
    return {
        "checkpointId": id_ or None,
        "customerId": customer.id,
        "status": status if row.size or row.label else "QUEUED",
        "final": bool(row.label) and verified,
        **scope,
        **links(call, row.root),
        "deltasCount": row.deltas if verified else None,
        "computedBalance": json_number(Decimal(row.total)) if verified else None,
        "unit": customer.meter.unit,
        "createdAt": instant(row.created_us),
        **_kept(row.extras),
    }


def _kept(extras: bytes) -> dict[str, Raw]:
    return {
        name: value
        for name in ("mode", "fingerprints")
        if (value := Fields.read(extras).raw(name)) is not None
    }


async def show_list(call: Call) -> object:
    """GET /checkpoints: the newest first; without a scope, of all times."""
    limit, offset = call.page()
    scope = parse_scope(call.query, call.now_us)
    id_ = call.query.get("customerId")
    by_channel: dict[bytes, list[Customer]] = {}
    for known in [id_] if id_ is not None else call.customers.ids():
        try:
            customer = call.customers.find(known)
        except Refusal:
            if id_ is not None:
                raise
        else:
            by_channel.setdefault(customer.key, []).append(customer)
    store = call.world.node.books.store
    given = await call.world.reader.in_turn(lambda: store.off_thread(listed, store))
    found: list[tuple[int, dict[str, Any]]] = []
    total = 0
    for key, customers in by_channel.items():
        question = partial(_of, call, customers, scope, given.get(key, ()), offset + limit)
        newest, count = await ask(call.world, key, question)
        found += newest
        total += count
    found.sort(key=lambda one: one[0], reverse=True)
    return {
        "checkpoints": [document for _, document in found[offset : offset + limit]],
        "pagination": {"total": total, "limit": limit, "offset": offset},
    }


def _of(
    call: Call,
    customers: Sequence[Customer],
    scope: Scope | None,
    given: Sequence[SnapshotRow],
    most: int,
    channel: Channel,
    closer: Closer,
    budget: int,
) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """The newest checkpoints of a channel's customers with their times, and how many there are."""
    if len(closer.rows) > budget:
        raise TooMuch
    calendar = calendar_of(channel)
    by_id = {customer.id: customer for customer in customers}
    mine = [row for row in given if row.customer in by_id]
    extras = {(row.customer, row.label): row.extras for row in mine if row.label}
    places = []
    for place, row in enumerate(closer.rows):
        period = calendar.parse(row.period)
        if _within(Scope(period.start_us, period.end_us, None), scope):
            places.append((place, row, period))
    found: list[tuple[int, dict[str, Any]]] = []
    for place, row, period in reversed(places[-most:]):
        at_us = call.closed.at_us(channel, closer, place) or row.end_us
        for customer in customers[: most - len(found)]:
            kept = _kept(extras.get((customer.id, row.period), b""))
            found.append((at_us, _closed(call, customer, channel, row, period, at_us) | kept))
    labels = {row.period for row in closer.rows}
    count = len(places) * len(customers)
    for snapshot in mine:
        of = _named(snapshot.scope)
        if snapshot.label in labels or not _within(of, scope):
            continue
        status = "QUEUED" if snapshot.label else "VERIFIED"
        document = _document(call, by_id[snapshot.customer], snapshot, of.document(), status)
        found.append((snapshot.created_us, document))
        count += 1
    return found, count


def _closed(
    call: Call,
    customer: Customer,
    channel: Channel,
    row: CheckpointRow,
    period: Period,
    at_us: int,
) -> dict[str, Any]:
    """A closed period as lists show it."""
    counted, _ = call.closed.billed(customer, channel, [row])
    return {
        "checkpointId": closed_id(customer.key, row.period),
        "customerId": customer.id,
        "status": "VERIFIED",
        "final": True,
        **Scope(period.start_us, period.end_us, row.period).document(),
        **links(call, row.digest),
        "deltasCount": counted.deltas,
        "computedBalance": json_number(scaled(counted.total, customer.meter.scale)),
        "unit": customer.meter.unit,
        "createdAt": instant(at_us),
    }


def _named(name: str) -> Scope:
    """The scope of its name."""
    start, slash, end = name.partition("/")
    values = {"startDate": start, "endDate": end} if slash else {"period": name}
    scope = parse_scope(values, 0)
    assert scope is not None
    return scope


def _within(inner: Scope, outer: Scope | None) -> bool:
    return outer is None or (inner.start_us >= outer.start_us and inner.end_us <= outer.end_us)
