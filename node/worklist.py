"""The work list: every dispute and every closed period that waits, for whom and until when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tallystick.node.attesting import until_s
from tallystick.node.channel import Channel
from tallystick.node.disputing import (
    PEPPOL_CODES,
    PEPPOL_LIST,
    log_of,
    open_closes,
    scale_of,
    settlements,
    standing_all,
    waiting_record,
)
from tallystick.protocol.disputes import PENDING, Standing
from tallystick.protocol.periods import zone_named
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Answer, Delta, Named, Role
from tallystick.protocol.statement import meter_units
from tallystick.protocol.terms import meter_named

# What silence until the deadline does, by the state that it ends.
THEN = {"open": "upheld", "answered": "lapsed"}
# How a dispute ended, in words, by its last state.
ENDINGS = {
    "resolved": "settled by both",
    "withdrawn": "withdrawn",
    "conceded": "conceded in full",
    "barred": "without effect: the checkpoint was accepted before",
    "upheld": "upheld for want of an answer",
    "lapsed": "lapsed: nobody insisted on it in time",
}


def worklist(channels: Sequence[Channel], *, settled: bool) -> dict[str, Any]:
    """The disputes that wait and, with `settled`, all others; and the closed periods that may
    still be disputed. Sorted by deadline; what has none comes last.
    """
    disputes, periods = [], []
    for channel in channels:
        chosen = [one for one in standing_all(channel) if settled or one.state in PENDING]
        disputes += dispute_documents(channel, chosen)
        periods += _periods(channel)
    disputes.sort(key=lambda d: (d["state"] not in PENDING, _deadline(d), d["dispute"]))
    return {"disputes": disputes, "checkpoints": sorted(periods, key=_deadline)}


def _deadline(document: dict[str, Any]) -> tuple[bool, int]:
    until = document["until_at"]
    return until is None, until or 0


def local_time(channel: Channel, at_s: int | None) -> str | None:
    """A time (POSIX seconds) on the clock of the terms, to the minute; the JSON has it exactly."""
    if at_s is None:
        return None
    try:
        instant = datetime.fromtimestamp(at_s, zone_named(channel.terms.time_zone))
    except (ValueError, OverflowError, OSError):
        return f"second {at_s}"
    return instant.strftime("%Y-%m-%d %H:%M %Z")


def _utc(at_s: int | None) -> str | None:
    try:
        return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def dispute_documents(channel: Channel, chosen: Sequence[Standing]) -> list[dict[str, Any]]:
    """Disputes as people and programs read them."""
    if not chosen:
        return []
    said = {log.role: settlements(log) for log in (channel.own, channel.peer)}
    return [_document(channel, one, said) for one in chosen]


def _document(
    channel: Channel, one: Standing, settled: dict[Role, dict[bytes, int]]
) -> dict[str, Any]:
    dispute = one.dispute
    meter = meter_named(channel.terms, dispute.meter)
    scale = scale_of(meter)
    filer = log_of(channel, one.role)
    other = channel.peer if filer is channel.own else channel.own
    said = None if one.answer is None else other.matter(one.answer)
    answer = said if isinstance(said, Answer) else None
    waiting = waiting_record(channel, one)
    until = None if waiting is None else waiting.until_s
    role = one.waits_for
    amounts = {
        log.party.name: _text(settled[log.role].get(one.digest), scale) for log in (filer, other)
    }
    return {
        "dispute": one.digest.hex(),
        "channel": channel.id.hex(),
        "by": filer.party.name,
        "against": other.party.name,
        "index": one.index,
        "period": dispute.period,
        "meter": dispute.meter,
        "subject": dispute.subject,
        "unit": meter_units(channel.terms)[dispute.meter],
        "amount": format_quantity(dispute.amount, scale),
        "code": dispute.code,
        "peppol": {"list": PEPPOL_LIST, "code": PEPPOL_CODES[dispute.code]},
        "reason": dispute.reason,
        "records": _named(channel, dispute.records),
        "filed_at": dispute.recorded_at,
        "state": one.state,
        "upheld": format_quantity(one.upheld, scale),
        "pending": format_quantity(one.pending, scale),
        "answer": None
        if answer is None
        else {
            "conceded": format_quantity(answer.conceded, scale),
            "reason": answer.reason,
            "records": _named(channel, answer.records),
        },
        "settlements": amounts,
        "waits_for": log_of(channel, role).party.name if role else None,
        "until": local_time(channel, until),
        "until_at": until,
        "until_utc": _utc(until),
        "then": THEN.get(one.state),
    }


def _text(amount: int | None, scale: int) -> str | None:
    return None if amount is None else format_quantity(amount, scale)


def _named(channel: Channel, records: Sequence[Named]) -> list[dict[str, Any]]:
    """The records that something points to, as far as they are here."""
    return [_record(channel, named.role, named.index) for named in records]


def _record(channel: Channel, role: Role, index: int) -> dict[str, Any]:
    log = log_of(channel, role)
    record = log.record(index) if index < log.durable_size else None
    name = f"{record.meter}/{record.id}" if isinstance(record, Delta) else None
    return {"party": log.party.name, "index": index, "name": name}


def _periods(channel: Channel) -> list[dict[str, Any]]:
    """Closed periods that are not deemed accepted yet, by either side."""
    found = []
    for log, other in ((channel.own, channel.peer), (channel.peer, channel.own)):
        for index, label in open_closes(log):
            until = until_s(log, index)
            found.append(
                {
                    "channel": channel.id.hex(),
                    "period": label,
                    "waits_for": other.party.name,
                    "until": local_time(channel, until),
                    "until_at": until,
                    "until_utc": _utc(until),
                    "then": "accepted",
                }
            )
    return found
