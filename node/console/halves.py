"""Both halves of the tally side by side: the newest records of two logs, what belongs together in
one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tallystick.node.channel import Channel
from tallystick.node.logs import ChannelLog
from tallystick.node.queries import record_document
from tallystick.protocol.records import Close, Declaration, Delta, Record, Reveal, Terms
from tallystick.protocol.statement import meter_units

ROWS = 16


@dataclass(frozen=True, slots=True)
class Notch:
    """One record as the page shows it."""

    index: int
    cosigned: bool
    at_us: int
    what: str
    quantity: str | None
    unit: str
    details: tuple[str, ...]
    name: str | None  # METER/ID of a delta


@dataclass(frozen=True, slots=True)
class Row:
    """A row: ours, theirs, or both."""

    own: Notch | None
    peer: Notch | None


def newest_rows(channel: Channel, count: int = ROWS) -> list[Row]:
    """The newest records of both logs, the newest first; what is in both is one row."""
    rows: list[tuple[int, Row]] = []
    shown: set[tuple[str, int]] = set()
    sides = ((channel.own, channel.peer), (channel.peer, channel.own))
    newest = {log.role: _newest(log, count) for log, _ in sides}
    for log, other in sides:
        elsewhere = {_twin(r): at for at, r in newest[other.role].items() if _twin(r)}
        for index, record in newest[log.role].items():
            if (log.role, index) in shown:
                continue
            notches = {log.role: _notch(channel, log, index, record)}
            place = elsewhere.get(_twin(record))
            if isinstance(record, Delta):
                found = other.find(record.meter, record.id)
                place = None if found is None else found[0]
            if place is not None:
                notches[other.role] = _notch(channel, other, place, other.record(place))
                shown.add((other.role, place))
            row = Row(notches.get(channel.role), notches.get(channel.peer.role))
            rows.append((max(notch.at_us for notch in notches.values()), row))
    rows.sort(key=lambda row: -row[0])
    return [row for _, row in rows[:count]]


def _twin(record: Record) -> bytes | None:
    """What the same record in the other log has in common with this one, but for deltas."""
    match record:
        case Terms():
            return b"terms"
        case Close():
            return record.checkpoint
        case Declaration():
            return b"declaration " + record.period.encode()
        case Reveal():
            return b"reveal " + b"".join(sorted((record.declaration, record.peer_declaration)))
    return None


def _newest(log: ChannelLog, count: int) -> dict[int, Record]:
    stop = log.durable_size
    found: dict[int, Record] = {}
    for first, records in log.records(max(stop - count, 0), stop):
        found.update(enumerate(records, first))
    return found


def _notch(channel: Channel, log: ChannelLog, index: int, record: Record) -> Notch:
    document = record_document(channel.terms, log.party.name, index, record)
    what, quantity, unit, details = _said(channel, document)
    name = f"{document['meter']}/{document['id']}" if isinstance(record, Delta) else None
    return Notch(
        index,
        index < log.cosigned_size,
        document.get("recorded_at", 0),
        what,
        quantity,
        unit,
        tuple(details),
        name,
    )


def _said(channel: Channel, document: dict[str, Any]) -> tuple[str, str | None, str, list[str]]:
    """What a record says: its kind, a quantity with its unit where it has one, and details."""
    units = meter_units(channel.terms)
    match document["kind"]:
        case "delta":
            details = [document["meter"], document["subject"]]
            return document["id"], document["quantity"], units[document["meter"]], details
        case "correction":
            name = f"{document['meter']}/{document['id']}"
            if document["quantity"] is None:
                return "Void", None, "", [name, document["reason"]]
            unit = units[document["meter"]]
            return "Correction", document["quantity"], unit, [name, document["reason"]]
        case "dispute":
            line = f"{document['period']}/{document['meter']}/{document['subject']}"
            unit = units[document["meter"]]
            return "Dispute", document["amount"], unit, [line, document["reason"]]
        case "answer" | "resolution" | "withdrawal":
            names = {"answer": "Answer", "resolution": "Settlement", "withdrawal": "Withdrawal"}
            about = f"of dispute {document['dispute'][:8]}"
            return names[document["kind"]], None, "", [about, document["reason"]]
        case "declaration":
            return "Declaration", None, "", [f"of {document['period']}, sealed"]
        case "reveal":
            totals = [f"{meter} {total}" for meter, total in document["totals"].items()]
            return "Declaration opened", None, "", totals
        case "close":
            return "Period closed", None, "", [_closed(document["checkpoint"])]
        case "lapse":
            return "Deadline passed", None, "", [f"of record {document['of']}"]
        case "reminder":
            return "Reminder", None, "", [f"of record {document['of']}"]
        case "rotation":
            return "New key", None, "", [f"of {document['of']}: {document['job']}"]
        case "terms":
            return "Terms", None, "", ["the channel begins"]
        case "epoch":
            return "Fresh start", None, "", [document["reason"]]
        case "disclosure":
            return "Reconciliation", None, "", [f"of {document['period']}"]
    return str(document["kind"]).capitalize(), None, "", []


def _closed(note: str) -> str:
    """The period of a checkpoint's text."""
    found = next((line for line in note.splitlines() if line.startswith("period ")), "period")
    return found.removeprefix("period ")
