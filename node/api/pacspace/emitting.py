"""Emitting: one delta, or a batch of which each is taken or refused for itself; and its state."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from hashlib import sha256
from typing import Any

from msgspec import Raw

from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.customers import ID, Customer
from tallystick.node.api.pacspace.entries import entry
from tallystick.node.api.pacspace.fields import Fields
from tallystick.node.api.pacspace.ids import CHANNEL_DIGITS, parse_record_id
from tallystick.node.api.pacspace.notes import NULL, Note, note_of, sealed_note
from tallystick.node.api.pacspace.numbers import parse_number
from tallystick.node.api.pacspace.sums import settle
from tallystick.node.api.pacspace.wire import Refusal, bad, missing, refusal_of
from tallystick.node.api.recording import Asked, Outcome, record
from tallystick.node.channel import Channel
from tallystick.node.importing.drafts import Draft
from tallystick.node.logs import ChannelLog
from tallystick.node.sealing import sealed_of
from tallystick.protocol.errors import QuantityError, TallyError
from tallystick.protocol.quantities import parse_quantity
from tallystick.protocol.records import Delta

DELTA_MAX = 1_000_000_000
REASON_MAX = 500
REFERENCE_MAX = 255
METADATA_BYTES_MAX = 16 * 1024
BATCH_MAX = 1000


@dataclass(frozen=True, slots=True)
class Emit:
    """What a client wants recorded; `digits` are those of its delta."""

    customer: str
    digits: str
    reason: str
    reference: str | None
    metadata: Raw
    adjusts: Raw


@dataclass(frozen=True, slots=True)
class _Ready:
    """An emit that can be recorded, and its place in the request."""

    place: int
    customer: Customer
    emit: Emit
    draft: Draft


def read_emit(fields: Fields) -> Emit:
    """The emit in an object."""
    customer = fields.needed_text("customerId", 128)
    if not ID.fullmatch(customer):
        raise bad("customerId must have 1 to 128 letters, digits, or _ - . :")
    digits = fields.digits("delta")
    if digits is None:
        raise bad("delta is missing")
    value = parse_number(digits, "delta")
    if not value or abs(value) > Decimal(DELTA_MAX):
        raise bad(f"delta must be a number other than 0, within {DELTA_MAX}, not {digits}")
    return Emit(
        customer,
        digits,
        fields.needed_text("reason", REASON_MAX),
        fields.text("referenceId", REFERENCE_MAX),
        fields.object("metadata", METADATA_BYTES_MAX) or NULL,
        fields.object("adjusts", 1024) or NULL,
    )


async def emit(call: Call) -> object:
    """POST /delta."""
    asked = read_emit(Fields.read(call.body))
    made = _prepare(call, call.customers.find(asked.customer), 0, asked, call.once.hex()[:40])
    (outcome,) = await _record(call, [made])
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome


async def batch(call: Call) -> object:
    """POST /delta/batch."""
    outcomes: dict[int, dict[str, Any] | Refusal] = {}
    emits: dict[int, Emit] = {}
    ready: list[_Ready] = []
    find = cache(call.customers.find)
    for place, item in enumerate(Fields.read(call.body).items("deltas", BATCH_MAX)):
        try:
            asked = emits[place] = read_emit(Fields.read(item, "an item of deltas"))
            once = f"{call.once.hex()[:40]}-{place}" if call.once else ""
            ready.append(_prepare(call, find(asked.customer), place, asked, once))
        except (Refusal, TallyError) as error:
            outcomes[place] = refusal_of(error)
    for made, outcome in zip(ready, await _record(call, ready), strict=True):
        outcomes[made.place] = outcome
    results = [_result(place, emits.get(place), outcomes[place]) for place in sorted(outcomes)]
    failed = sum(result["status"] == "FAILED" for result in results)
    return {
        "totalQueued": len(results) - failed,
        "totalFailed": failed,
        "results": results,
    }


def _result(place: int, asked: Emit | None, outcome: dict[str, Any] | Refusal) -> dict[str, Any]:
    if isinstance(outcome, Refusal):
        return {
            "index": place,
            "recordId": None,
            "customerId": asked.customer if asked else None,
            "delta": Raw(asked.digits.encode()) if asked else None,
            "status": "FAILED",
            "idempotent": False,
            "error": outcome.message,
            "code": outcome.code or None,
        }
    return {"index": place, **outcome, "error": outcome.get("error")}


def _prepare(call: Call, customer: Customer, place: int, asked: Emit, once: str) -> _Ready:
    """What is recorded for an emit. `once` names it if its client gave it no reference."""
    reason = call.customers.halted(customer.key)
    if reason:
        raise Refusal(
            409, f"the channel with {customer.peer} is halted: {reason}", "CHANNEL_HALTED"
        )
    quantity = customer.sign * _quantity(customer, asked.digits)
    channel, _ = call.customers.opened(customer)
    if not customer.ours:
        raise bad(
            f"{customer.meter.name} is recorded by {customer.peer} under the terms of this channel,"
            " not by this party"
        )
    if not channel.own.rules.allows(customer.meter.name, quantity):
        raise bad(
            f"delta {asked.digits} is outside the range that the terms give the meter"
            f" {customer.meter.name}. To take back what was recorded, use tally correct, or agree"
            " on terms whose range allows it"
        )
    _check_adjusts(customer, channel, asked.adjusts)
    if asked.reference is not None:
        id_ = customer.delta_id(asked.reference)
    else:
        id_ = customer.delta_id(f"once-{once}" if once else f"emit-{secrets.token_hex(16)}")
    note = Note(
        customer.id,
        asked.reason,
        asked.reference,
        asked.metadata,
        asked.adjusts,
        customer.sign,
    )
    draft = Draft(
        id_, customer.meter.name, customer.records_as(), quantity, call.now_us, sealed_note(note)
    )
    return _Ready(place, customer, asked, draft)


def _quantity(customer: Customer, digits: str) -> int:
    try:
        return parse_quantity(digits, customer.meter.scale)
    except QuantityError as error:
        raise bad(
            f"delta {digits}: {error.message}. Numbers are taken as they are written, and none is"
            " rounded"
        ) from None


def _check_adjusts(customer: Customer, channel: Channel, adjusts: Raw) -> None:
    """Refuse what adjusts nothing that is there of this customer."""
    if bytes(adjusts) == b"null":
        return
    fields = Fields.read(adjusts, "adjusts")
    reference, id_ = fields.text("referenceId", REFERENCE_MAX), fields.text("recordId", 512)
    if (reference is None) == (id_ is None):
        raise bad("adjusts must have a referenceId or a recordId")
    if reference is not None:
        found = channel.own.find(customer.meter.name, customer.delta_id(reference))
    else:
        name = parse_record_id(id_ or "")
        known = (
            name is not None
            and channel.id.hex().startswith(name.channel)
            and name.role == customer.role
        )
        found = channel.own.find(name.meter, name.id) if name and known else None
    if found is None or not customer.has(found[1].meter, found[1].subject):
        raise missing(f"adjusts names nothing that is recorded for {customer.id}")


async def _record(call: Call, ready: Sequence[_Ready]) -> list[dict[str, Any] | Refusal]:
    """What became of each, in their order; returned when it is durable."""
    outcomes: dict[int, dict[str, Any] | Refusal] = {}
    groups: dict[bytes, list[_Ready]] = {}
    for made in ready:
        groups.setdefault(made.customer.key, []).append(made)
    for key, group in groups.items():
        channel, _ = call.world.node.books.channels[key]
        try:
            asked = [Asked(made.draft, timed=False) for made in group]
            recorded = await record(call.world.service, channel, asked)
        except TallyError as error:
            if len(groups) == 1:
                raise
            outcomes |= {made.place: refusal_of(error) for made in group}
            continue
        for made, one in zip(group, recorded.each, strict=True):
            outcomes[made.place] = _outcome(call, channel, made, one)
    return [outcomes[made.place] for made in ready]


def _outcome(call: Call, channel: Channel, made: _Ready, one: Outcome) -> dict[str, Any] | Refusal:
    if one.state == "refused":
        if one.kind == "ConflictError":
            return _conflict(made)
        return bad(one.message)
    delta = channel.own.record(one.index)
    assert isinstance(delta, Delta)
    quantity: int | None = delta.quantity
    if one.state == "there":  # it may be corrected since
        note = note_of(channel.own, delta)
        if note is None or note.says_other(made.emit.reason, made.emit.adjusts):
            return _conflict(made)
        quantity = _corrected(channel.own, delta)
    document = entry(
        call.customers, channel, channel.own, one.index, delta, made.customer, quantity
    )
    return document | {"idempotent": one.state == "there"}


def _corrected(log: ChannelLog, delta: Delta) -> int | None:
    found = log.effective(delta.meter, delta.id)
    assert found is not None
    return found[1]


def _conflict(made: _Ready) -> Refusal:
    return Refusal(
        409,
        f"{made.emit.reference or made.draft.id!r} of {made.customer.id} is recorded with another"
        " amount or reason; nothing was recorded. Use a new referenceId for a new event",
        "IDEMPOTENCY_CONFLICT",
    )


async def show(call: Call) -> object:
    """GET /delta/{recordId}."""
    name = parse_record_id(call.ids[0])
    unknown = missing(f"there is no record {call.ids[0][:200]!r}")
    if name is None or len(name.channel) != CHANNEL_DIGITS:
        raise unknown
    channels = [
        channel
        for key, (channel, _) in call.world.node.books.channels.items()
        if key.hex().startswith(name.channel)
    ]
    if len(channels) != 1 or name.meter not in [m.name for m in channels[0].terms.meters]:
        raise unknown
    (channel,) = channels
    log = channel.provider_log if name.role == "provider" else channel.consumer_log
    found = log.find(name.meter, name.id)
    # Who only emits sees what this party recorded, and nothing of its peer's.
    if found is None or (log is not channel.own and not call.caller.may("read")):
        raise unknown
    if log is channel.own:
        await settle(channel, found[0] + 1)
        found = log.find(name.meter, name.id) or found  # it may have moved after a loss
    return _shown(call, channel, log, *found)


def _shown(
    call: Call, channel: Channel, log: ChannelLog, index: int, delta: Delta
) -> dict[str, Any]:
    customer = None
    if note_of(log, delta) is None:
        customer = call.customers.of_usage(channel.id, delta.meter, delta.subject)
    quantity = _corrected(log, delta)
    document = entry(call.customers, channel, log, index, delta, customer, quantity)
    sealed = sealed_of(log, delta)
    if sealed:
        document["sealed"] = {
            "bytes": base64.b64encode(sealed).decode(),
            "sha256": sha256(sealed).hexdigest(),
        }
    return document
