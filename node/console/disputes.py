"""Disputes as a work list, and what a person says of them: drafted, shown as it will be signed, and
signed only then.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.responses import Response

from tallystick.node import disputing, filing, queries, worklist
from tallystick.node.api.routes.disputes import find, say
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.console.rendering import url
from tallystick.node.console.visits import Page, Visit, go_to
from tallystick.node.disputing import Sayable
from tallystick.protocol.disputes import PENDING, Standing
from tallystick.protocol.errors import FormatError, InputError
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import (
    Answer,
    Delta,
    Dispute,
    Resolution,
    Withdrawal,
    decode_record,
    record_digest,
)
from tallystick.protocol.statement import meter_units
from tallystick.protocol.terms import meter_named

_CODES = {
    "quantity": "the quantity is wrong",
    "reference": "whose usage it is is wrong",
    "other": "something else, as the reason says",
}


async def _list(visit: Visit) -> Response:
    books = visit.world.node.books
    settled = visit.asked("all") == "yes"
    listed = worklist.worklist([c for c, _ in books.channels.values()], settled=settled)
    peers = {key.hex(): c.peer.party.name for key, (c, _) in books.channels.items()}
    open_ = [one for one in listed["disputes"] if one["state"] in PENDING]
    ended = [one for one in listed["disputes"] if one["state"] not in PENDING]
    return await visit.render(
        "disputes.html",
        open=open_,
        ended=ended,
        settled=settled,
        checkpoints=listed["checkpoints"],
        peers=peers,
        endings=worklist.ENDINGS,
    )


def _actions(one: Standing, channel: Channel) -> list[str]:
    """What may be said of a dispute here now."""
    if one.state not in PENDING:
        return []
    ours = one.role == channel.role
    if not ours:
        return ["concede", "reject", "resolve"]
    return (["insist"] if one.state == "answered" else []) + ["resolve", "withdraw"]


async def _show(visit: Visit) -> Response:
    channel, one = find(visit.world, visit.request.path_params["dispute"])
    (document,) = worklist.dispute_documents(channel, [one])
    return await visit.render(
        "dispute.html",
        document=document,
        channel=channel.id.hex(),
        peer=channel.peer.party.name,
        ending=worklist.ENDINGS.get(one.state, ""),
        codes=_CODES,
        actions=_actions(one, channel),
        halted=visit.world.node.books.founding.rows[channel.id].state == "halted",
        done=visit.asked("done"),
    )


async def _ask_claim(visit: Visit) -> Response:
    channel, _ = visit.channel()
    label, meter = visit.asked("period"), visit.asked("meter")
    lines: list[dict[str, Any]] = []
    if label:
        derived = await visit.ask(
            channel.id, lambda c, closer: queries.derive(c, closer, period=label)
        )
        lines = derived["lines"][:500]
    return await visit.render(
        "claim.html",
        channel=channel.id.hex(),
        peer=channel.peer.party.name,
        period=label,
        chosen=f"{label}/{meter}/{visit.asked('subject')}" if meter else "",
        records=visit.asked("name"),
        lines=lines,
        codes=_CODES,
    )


async def _draft_claim(visit: Visit) -> Response:
    channel, _ = visit.channel()
    form = visit.form
    by_records = form.text("by") == "records"
    claim = filing.Claim(
        form.word("code"),
        form.sentence("reason"),
        form.words("records") if by_records else (),
        None if by_records else form.text("line"),
        form.word("amount") or None,
    )
    record = await visit.ask(channel.id, lambda c, closer: filing.dispute_of(c, closer, claim))
    return await _confirm(visit, channel, record, None)


async def _draft_saying(visit: Visit) -> Response:
    channel, one = find(visit.world, visit.request.path_params["dispute"])
    form, action = visit.form, visit.form.text("action")
    reason, amount = form.sentence("reason"), form.word("amount")
    record: Sayable
    match action:
        case "concede" | "reject" | "insist":
            names = form.words("records")
            part = (amount or None) if action == "concede" else None
            record = filing.answer_of(channel, one, filing.Reply(action, reason, part, names))
        case "resolve":
            record = filing.resolution_of(channel, one, amount, reason)
        case "withdraw":
            record = filing.withdrawal_of(one, reason)
        case _:
            raise InputError(f"there is no action {action[:40]!r}", "Choose one on the page")
    return await _confirm(visit, channel, record, one)


async def _confirm(
    visit: Visit, channel: Channel, record: Sayable, one: Standing | None
) -> Response:
    """The page that shows what will be signed; the form on it carries these very bytes."""
    return await visit.render(
        "confirm.html",
        channel=channel.id.hex(),
        peer=channel.peer.party.name,
        title=_title(record),
        rows=_rows(channel, record, one.dispute if one else None),
        effect=_effect(channel, record, one),
        record=base64.b64encode(filing.sayable_bytes(record)).decode(),
        back=url("disputes", one.digest.hex()) if one else url("disputes"),
    )


def _title(record: Sayable) -> str:
    match record:
        case Dispute():
            return "File this dispute?"
        case Answer():
            return "Sign this answer?"
        case Resolution():
            return "Sign this settlement?"
        case Withdrawal():
            return "Withdraw this dispute?"


def _rows(channel: Channel, record: Sayable, about: Dispute | None) -> list[tuple[str, str, str]]:
    """The record's fields as a person reads them: name, text, and the unit of an amount."""
    dispute = record if isinstance(record, Dispute) else about
    assert dispute is not None
    scale = disputing.scale_of(meter_named(channel.terms, dispute.meter))
    unit = meter_units(channel.terms)[dispute.meter]
    rows = [("Line", f"{dispute.period} / {dispute.meter} / {dispute.subject}", "")]
    if not isinstance(record, Dispute):
        rows.insert(0, ("Dispute", record_digest(dispute).hex()[:16], ""))
    named: tuple[Any, ...] = ()
    match record:
        case Dispute():
            rows += [
                ("Disputed", format_quantity(record.amount, scale), unit),
                ("What is wrong", _CODES[record.code], ""),
            ]
            named = record.records
        case Answer():
            rows.append(("Conceded", format_quantity(record.conceded, scale), unit))
            named = record.records
        case Resolution():
            rows.append(("Less payable by", format_quantity(record.upheld, scale), unit))
    rows.append(("Reason", record.reason, ""))
    for one in named:
        log = disputing.log_of(channel, one.role)
        found = log.record(one.index)
        name = f"{found.meter}/{found.id}" if isinstance(found, Delta) else "record"
        rows.append(("Record", f"{name} (record {one.index} of {log.party.name})", ""))
    return rows


def _effect(channel: Channel, record: Sayable, one: Standing | None) -> str:
    """What signing does."""
    peer = channel.peer.party.name
    match record:
        case Dispute():
            return (
                f"{peer} has to answer in the time that the terms give; what is not answered is"
                " upheld. Until then the amount is not payable."
            )
        case Answer() if one is not None and one.role == channel.role:
            return "The dispute stays open until both agree, whatever the answer conceded."
        case Answer():
            return (
                f"Unless {peer} insists in the time that the terms give, the dispute ends with"
                " what is conceded here."
            )
        case Resolution():
            return f"The dispute is settled once {peer} names the same amount."
        case Withdrawal():
            return "The dispute ends, and its amount is payable again."


async def _sign(visit: Visit) -> Response:
    channel, _ = visit.channel()
    try:
        record = decode_record(base64.b64decode(visit.form.text("record"), validate=True))
    except (binascii.Error, ValueError):
        raise FormatError("this form holds no record", "Go back and fill it in anew") from None
    if not isinstance(record, Dispute | Answer | Resolution | Withdrawal):
        raise InputError("nothing of this kind is said of a dispute")
    if isinstance(record, Dispute):
        filed = record  # the balance may have moved since the page was shown

        def check(c: Channel, closer: Closer) -> None:
            filing.check_amount(c, closer, filed)

        await visit.ask(channel.id, check)
    said = await say(visit.world, channel, record)
    done = "again" if said.duplicate else "signed"
    return go_to(url("disputes", said.dispute.dispute, done=done))


PAGES = (
    Page("GET", "/disputes", "read", _list),
    Page("GET", "/disputes/{dispute}", "read", _show),
    Page("POST", "/disputes/{dispute}/say", "admin", _draft_saying),
    Page("GET", "/channels/{channel}/dispute", "admin", _ask_claim),
    Page("POST", "/channels/{channel}/dispute", "admin", _draft_claim),
    Page("POST", "/channels/{channel}/sign", "admin", _sign),
)
