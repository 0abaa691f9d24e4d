"""What may be asked of the books: plain documents, the same with and without a running node."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from tallystick.node import proving
from tallystick.node.accusing import kept
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.feed.events import iso
from tallystick.node.gossiping.judging import shown
from tallystick.node.gossiping.presences import stored_presence
from tallystick.node.logs import ChannelLog
from tallystick.node.matter_documents import matter_document
from tallystick.node.rebuilding import aside_rows, unplaced_rows
from tallystick.node.rotating import JOBS, waiting
from tallystick.node.statuses import statuses_of
from tallystick.node.store.keyspace import CheckpointRow
from tallystick.node.timestamping.kept import token_of
from tallystick.node.witnessing.asked import Asked, asked_witnesses
from tallystick.node.witnessing.lines import read_asked
from tallystick.protocol.checkpoint import verify_checkpoint
from tallystick.protocol.errors import UnknownName
from tallystick.protocol.keys import ED25519_COSIGNATURE, Vkey
from tallystick.protocol.merkle import EMPTY_ROOT
from tallystick.protocol.pairing import comparison_words
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import (
    Close,
    Correction,
    Delta,
    Record,
    Rotation,
    Terms,
    batch_count,
    decode_record,
)
from tallystick.protocol.rendering import verdict_document
from tallystick.protocol.statement import Line, decode_line, statement_root
from tallystick.protocol.status import status_of_all
from tallystick.protocol.verdict import decode_verdict, verdict_digest


def peers(books: Books, live: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The paired peers."""
    connected = live["peers"] if live else {}
    return [
        {
            "name": peer.name,
            "address": peer.address,
            "connected": bool(connected.get(peer.name)),
            "cosigner": str(Vkey(peer.name, ED25519_COSIGNATURE, peer.cosigner_key)),
            "words": " ".join(comparison_words(books.identity, peer)),
        }
        for _, peer in sorted(books.peers.items())
    ]


def channels(books: Books) -> list[dict[str, Any]]:
    """The channels and the proposals."""
    documents = []
    for key, row in books.founding.rows.items():
        terms = books.founding.terms_of(key)
        documents.append(
            {
                "channel": key.hex(),
                "peer": row.peer,
                "state": row.state,
                "role": "provider" if terms.provider.name == books.identity.name else "consumer",
                "period": terms.calendar,
                "time_zone": terms.time_zone,
                "meters": [meter.name for meter in terms.meters],
                "reason": row.reason,
            }
        )
    return documents


def _log_status(log: ChannelLog) -> dict[str, Any]:
    return {"party": log.party.name, "size": log.durable_size, "cosigned": log.cosigned_size}


def _shown(channel: Channel, log: ChannelLog) -> int | None:
    """The size of a log that gossip showed, if that is more than is here."""
    row = shown(channel, log)
    return row.size if row is not None and row.size > log.durable_size else None


def witnessed(log: ChannelLog, witnesses: Sequence[Asked]) -> list[dict[str, Any]]:
    """How far each witness is with a log of ours."""
    with log.store.read() as txn:
        rows = [(one, read_asked(txn, log.number, one.vkeys[0])) for one in witnesses]
    return [
        {"name": one.name, "size": row.size, "of": log.cosigned_size, "breach": row.breach}
        for one, row in rows
    ]


def status(books: Books, live: dict[str, Any] | None) -> dict[str, Any]:
    """How each channel stands."""
    documents = []
    witnesses = asked_witnesses(books.config.witnessing)[1]
    for key, (channel, closer) in books.channels.items():
        row = books.founding.rows[key]
        now = live["channels"].get(key.hex()) if live else None
        own = channel.own
        lag = own.durable_size - own.cosigned_size
        confirmed = bool(now and now["confirmed"])
        state = row.state if row.state == "halted" else "open" if confirmed else "confirming"
        documents.append(
            {
                "channel": key.hex(),
                "peer": row.peer,
                "role": channel.role,
                "connected": bool(now and now["connected"]),
                "own": _log_status(own),
                "theirs": _log_status(channel.peer),
                "lag_records": lag,
                "lag_seconds": (now["since_cosigned_seconds"] if now and lag else 0),
                "state": state,
                "reason": row.reason,
                "last_checkpoint": closer.last.period if closer.last else None,
                "difference": now["difference"] if now else "",
                "quota": {
                    "held_bytes": channel.held_bytes,
                    "limit_bytes": channel.quota_bytes,
                    "reached": channel.full,
                },
                "withheld": now["withheld"] if now else "",
                "clock_skew_seconds": now["clock_skew_seconds"] if now else None,
                "evidence": [found.digest.hex() for found in kept(channel)],
                "shown": {
                    "own": _shown(channel, own),
                    "theirs": _shown(channel, channel.peer),
                },
                "witnesses": witnessed(own, witnesses),
            }
        )
    with books.store.read() as txn:
        copy = stored_presence(txn)
    # A copy's last word is of a time to come.
    seen_us = min(copy.seen_ms * 1000, books.clock_us())
    stopped = {"since": iso(copy.stopped_us), "seen": iso(seen_us)}
    proposals = [d for d in channels(books) if d["state"] in ("offered", "proposed")]
    return {
        "name": books.identity.name,
        "running": live is not None,
        "stopped": stopped if copy.stopped_us else None,
        "address": live["address"] if live else None,
        "http": live["http"] if live else None,
        "standby": live["standby"] if live else None,
        "channels": documents,
        "timestamps": live["timestamps"] if live else None,
        "proposals": [
            {"channel": d["channel"], "peer": d["peer"], "state": d["state"]} for d in proposals
        ],
    }


def head_document(log: ChannelLog) -> dict[str, Any]:
    """The newest co-signed head of a log: a signed note, with the lines of witnesses on it."""
    with log.store.read() as txn:
        note = proving.signed_head(log, txn, log.cosigned_size, witnessed=True)
    return {"party": log.party.name, "size": log.cosigned_size, "head": note.decode()}


def evidence(books: Books, selector: str | None) -> list[dict[str, Any]]:
    """What convicts a party, in one channel or in all."""
    chosen = [books.select(selector)] if selector else list(books.channels)
    return [
        {
            "channel": key.hex(),
            "accused": found.evidence.accused.party,
            "kind": found.evidence.accused.part,
            "sizes": [noted.head.size for noted in found.evidence.heads],
            "digest": found.digest.hex(),
        }
        for key in chosen
        for found in kept(books.channels[key][0])
    ]


def recovery(books: Books, live: dict[str, Any] | None) -> list[dict[str, Any]]:
    """How recovery stands in each channel; `live` is what the running node knows of it."""
    documents = []
    for key, (channel, _) in books.channels.items():
        now = live.get(key.hex()) if live else None
        said: dict[str, int] | None = now["peer"] if now else None
        own, peer = channel.own, channel.peer
        with channel.store.read() as txn:
            aside = sum(batch_count(batch) for _, batch in aside_rows(txn, own.number))
            unplaced = unplaced_rows(txn, own.number)
        documents.append(
            {
                "channel": key.hex(),
                "peer": channel.peer_keys.name,
                "state": books.founding.rows[key].state,
                "doubt": channel.doubt,
                "peer_doubt": said["doubt"] if said else None,
                "own": _held(own, own.cosigned_size, said["own"] if said else None),
                "theirs": _held(peer, peer.durable_size, said["theirs"] if said else None),
                "aside": aside,
                "unplaced": [
                    {"record": _name_of(decode_record(row.record)), "reason": row.reason}
                    for row in unplaced
                ],
                "needs_agreement": bool(said and said["doubt"] and channel.doubt == 1),
            }
        )
    return documents


def _held(log: ChannelLog, surely: int, said: int | None) -> dict[str, int | None]:
    """How many records of a log are here, and at the peer: it said so when it connected, and has
    had `surely` since.
    """
    return {"here": log.durable_size, "peer": None if said is None else max(said, surely)}


def _name_of(record: Record) -> str:
    if isinstance(record, Delta | Correction):
        return f"{type(record).__name__.lower()} {record.meter}/{record.id}"
    return type(record).__name__.lower()


def vkeys(channel: Channel) -> dict[str, Any]:
    """The verifier keys of a channel's logs and co-signers: those in force, and those before.

    `waiting` are the jobs whose newest key of ours the peer's log does not name yet.
    """
    current: dict[str, Any] = {}
    earlier: dict[str, list[dict[str, Any]]] = {}
    for prefix, log in (("", channel.own), ("peer_", channel.peer)):
        ring, role = log.keyring, log.role
        both = {"log": ring.log_vkeys(role), "cosigner": ring.cosigner_vkeys(role)}
        for job, found in both.items():
            current[prefix + job] = str(found[0])
            dated = reversed(ring.keys(role, "log" if job == "log" else "cosigner"))
            earlier[prefix + job] = [
                {"vkey": str(vkey), "until": key.until_us}
                for vkey, key in zip(found, dated, strict=True)
            ][1:]
    jobs = [job for job in JOBS if waiting(channel, job) is not None]
    return current | {"earlier": earlier, "waiting": jobs}


def derive(
    channel: Channel,
    closer: Closer,
    period: str | None = None,
    meter: str | None = None,
    subject: str | None = None,
) -> dict[str, Any]:
    """The balance lines, their digest, and the heads that they follow from."""
    if period is not None:
        period = channel.own.folder.calendar.parse(period).label
    every = closer.all_lines()
    shown = [
        (line, status)
        for line, status in zip(every, statuses_of(channel, closer, every), strict=True)
        if (period is None or line.period == period)
        and (meter is None or line.meter == meter)
        and (subject is None or line.subject == subject)
    ]
    heads = []
    for log in (channel.provider_log, channel.consumer_log):
        with channel.store.read() as txn:
            row = log.head_row(txn, log.durable_size)
        root = row.root if row else EMPTY_ROOT
        heads.append({"party": log.party.name, "size": log.durable_size, "root": root.hex()})
    return {
        "channel": channel.id.hex(),
        "digest": statement_root([line for line, _ in shown]).hex(),
        "heads": heads,
        "lines": [line_document(line) | {"status": status} for line, status in shown],
    }


def line_document(line: Line) -> dict[str, Any]:
    """A balance line as JSON has it."""
    return {name: getattr(line, name) for name in line.__struct_fields__}


def record_document(terms: Terms, party: str, index: int, record: Record) -> dict[str, Any]:
    """A record as people and programs read it."""
    document: dict[str, Any] = {
        "party": party,
        "index": index,
        "kind": type(record).__name__.lower(),
    }
    scales = {meter.name: meter.scale for meter in terms.meters}
    match record:
        case Delta():
            document |= {
                "id": record.id,
                "meter": record.meter,
                "subject": record.subject,
                "quantity": format_quantity(record.quantity, scales[record.meter]),
                "occurred_at": record.occurred_at,
                "recorded_at": record.recorded_at,
            }
        case Correction():
            quantity = record.quantity
            document |= {
                "id": record.id,
                "meter": record.meter,
                "quantity": (
                    None if quantity is None else format_quantity(quantity, scales[record.meter])
                ),
                "reason": record.reason,
                "recorded_at": record.recorded_at,
            }
        case Close():
            document |= {
                "checkpoint": record.checkpoint.decode(),
                "recorded_at": record.recorded_at,
            }
        case Rotation():
            parties = {"provider": terms.provider.name, "consumer": terms.consumer.name}
            document |= {
                "of": parties[record.party],
                "job": record.job,
                "number": record.number,
                "key": record.key.hex(),
                "old_until": record.old_until,
                "recorded_at": record.recorded_at,
            }
        case Terms():
            document |= {"channel_between": [record.provider.name, record.consumer.name]}
        case _:
            document |= matter_document(terms, record)
    return document


def log_records(
    channel: Channel, log: ChannelLog, start: int, count: int
) -> Iterator[dict[str, Any]]:
    """Records of a log from an index on."""
    stop = min(start + count, log.durable_size)
    for first, records in log.records(start, stop):
        for index, record in enumerate(records, first):
            yield record_document(channel.terms, log.party.name, index, record)


def find_delta(channel: Channel, name: str) -> list[tuple[ChannelLog, int, Delta]]:
    """Deltas by `METER/ID` or by id alone, in both logs; `UnknownName` if there is none."""
    found = []
    meters = [meter.name for meter in channel.terms.meters]
    pairs = [(meter, name) for meter in meters]
    meter, _, rest = name.partition("/")
    if meter in meters and rest:
        pairs.insert(0, (meter, rest))
    for log in (channel.own, channel.peer):
        for pair in pairs:
            hit = log.find(*pair)
            if hit is not None:
                found.append((log, *hit))
    if not found:
        raise UnknownName(
            f"no delta is called {name!r} in this channel", "Give METER/ID or ID; see tally log"
        )
    return found


def show(channel: Channel, name: str) -> list[dict[str, Any]]:
    """Deltas by name, with what became of them."""
    documents = []
    for log, index, delta in find_delta(channel, name):
        document = record_document(channel.terms, log.party.name, index, delta)
        document["cosigned"] = index < log.cosigned_size
        effective = log.effective(delta.meter, delta.id)
        assert effective is not None
        scale = next(m.scale for m in channel.terms.meters if m.name == delta.meter)
        document["effective_quantity"] = (
            None if effective[1] is None else format_quantity(effective[1], scale)
        )
        document["period"] = log.folder.calendar.period_of(delta.occurred_at).label
        documents.append(document)
    return documents


def checkpoint_document(channel: Channel, closer: Closer, label: str) -> dict[str, Any]:
    """A closed period's checkpoint."""
    row = closer.row_of(channel.own.folder.calendar.parse(label))
    if row is None:
        raise UnknownName(f"{label} is not closed", f"Close it: tally checkpoint {label}")
    checkpoint = verify_checkpoint(row.note, channel.own.keyring)
    return {
        "checkpoint": row.note.decode(),
        "digest": row.digest.hex(),
        "lines": checkpoint.lines,
        "signed_by": [checkpoint.provider, checkpoint.consumer],
        "verdict": _verdict_document(channel, closer, row),
        "timestamp": _timestamp_document(channel, row),
    }


def _timestamp_document(channel: Channel, row: CheckpointRow) -> dict[str, Any] | None:
    """When an authority says that a checkpoint existed, if one was asked and answered."""
    token = token_of(channel, row)
    if token is None:
        return None
    return {
        "time": iso(token.time_us),
        "authority": token.certificate.name,
        "certificate": token.certificate.digest(),
    }


def bundle_of(
    channel: Channel, closer: Closer, label: str, *, full: bool, plain: bool = False
) -> bytes:
    """The bundle of a closed period; `InputError` if it is not closed."""
    checkpoint_document(channel, closer, label)  # refuses what is not closed
    row = closer.row_of(channel.own.folder.calendar.parse(label))
    assert row is not None
    out = io.BytesIO()
    proving.bundle(channel, row, out, full=full, plain=plain)
    return out.getvalue()


def _verdict_document(
    channel: Channel, closer: Closer, row: CheckpointRow
) -> dict[str, Any] | None:
    """The verdict that both signed, with its digest and each meter's status; None if there were no
    verdicts then.
    """
    if not row.verdict:
        return None
    verdict = decode_verdict(row.verdict)
    lines = [decode_line(data) for data in row.lines]
    found = list(zip(lines, statuses_of(channel, closer, lines), strict=True))
    document = verdict_document(verdict)
    for meter in document["meters"]:
        own = (status for line, status in found if line.meter == meter["meter"])
        meter["status"] = status_of_all(own) or "checkpointed"
    return {"digest": verdict_digest(verdict).hex()} | document


def closed_status(channel: Channel, closer: Closer, row: CheckpointRow, line: Line) -> str:
    """The status of a line of a closed period."""
    lines = [decode_line(data) for data in row.lines]
    return statuses_of(channel, closer, lines)[lines.index(line)]


def closed_line(
    channel: Channel, closer: Closer, label: str, meter: str, subject: str
) -> tuple[CheckpointRow, Line]:
    """A balance line of a closed period, and its period's checkpoint."""
    row = closer.row_of(channel.own.folder.calendar.parse(label))
    if row is None:
        raise UnknownName(f"{label} is not closed", f"Close it: tally checkpoint {label}")
    lines = [decode_line(data) for data in row.lines]
    for line in lines:
        if (line.meter, line.subject, line.late_for) == (meter, subject, None):
            return row, line
    raise UnknownName(
        f"{label} has no line {meter}/{subject}", f"See: tally derive --period {label}"
    )
