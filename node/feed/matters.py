"""What became of declarations, disputes and closed periods between two sizes of a channel's logs.

Where disputes stand is a function of both logs, so the events of a stretch are the difference of
two standings, and the records of the stretch that change none: answers, and offers to settle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.node.channel import Channel
from tallystick.node.disputing import log_of, scale_of, standings_at
from tallystick.node.feed.events import iso_s
from tallystick.node.logs import ChannelLog
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import index_key
from tallystick.node.worklist import dispute_documents
from tallystick.protocol.checkpoint import parse_checkpoint
from tallystick.protocol.disputes import Standing
from tallystick.protocol.matters import Said
from tallystick.protocol.notes import parse_note
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import (
    Answer,
    Close,
    Declaration,
    Lapse,
    Resolution,
    Reveal,
)
from tallystick.protocol.terms import meter_named

Told = tuple[str, dict[str, Any]]

# How a dispute ends, and the kind of event that says so.
ENDED = {
    "resolved": "dispute.resolved",
    "conceded": "dispute.resolved",
    "barred": "dispute.resolved",
    "withdrawn": "dispute.withdrawn",
    "upheld": "dispute.lapsed",
    "lapsed": "dispute.lapsed",
}

_FIELDS = ("dispute", "by", "against", "period", "meter", "subject", "unit", "amount", "code",
           "reason", "state", "upheld", "pending", "waits_for")  # fmt: skip


def standings_of(channel: Channel, own_size: int, peer_size: int) -> list[Standing]:
    """Where disputes stand at a size of our log and one of the peer's."""
    sizes = {channel.own.role: own_size, channel.peer.role: peer_size}
    return standings_at(channel, sizes["provider"], sizes["consumer"])


@dataclass(frozen=True, slots=True)
class Telling:
    """A stretch of both logs: our log's sizes before and after, and the peer's."""

    channel: Channel
    own: tuple[int, int]
    peer: tuple[int, int]

    def any(self, txn: Txn) -> bool:
        """Whether there is any matter or close in it."""
        logs = ((self.channel.own, self.own), (self.channel.peer, self.peer))
        return any(
            next(
                txn.scan(table, index_key(log.number, start), index_key(log.number, stop)),
                None,
            )
            for log, (start, stop) in logs
            for table in ("matters", "closes")
        )

    def standings(self, place: int) -> list[Standing]:
        """Where disputes stand at its beginning (0) or its end (1)."""
        return standings_of(self.channel, self.own[place], self.peer[place])

    def records(self) -> Iterator[tuple[ChannelLog, Said]]:
        """The matters and closes in it: the peer's after ours."""
        logs = ((self.channel.own, self.own), (self.channel.peer, self.peer))
        for log, (start, stop) in logs:
            for said in log.matters(stop, start):
                yield log, said


def rows_of_matters(telling: Telling) -> list[Told]:
    """The events of a stretch: each dispute's in order, then what is about no dispute."""
    channel = telling.channel
    before = {(one.role, one.digest): one.state for one in telling.standings(0)}
    said: dict[bytes, list[tuple[ChannelLog, Answer | Resolution]]] = {}
    others: list[Told] = []
    for log, (_, record) in telling.records():
        if isinstance(record, Answer | Resolution):
            said.setdefault(record.dispute, []).append((log, record))
        else:
            others += _of_no_dispute(log, record)
    told: list[Told] = []
    moved = [
        one
        for one in telling.standings(1)
        if before.get((one.role, one.digest)) != one.state or said.get(one.digest)
    ]
    for one, data in zip(moved, dispute_data(channel, moved), strict=True):
        was = before.get((one.role, one.digest))
        spoken = said.get(one.digest, ())
        if was is None:
            told.append(("dispute.opened", data))
        told += [_of_words(channel, one, data, log, record) for log, record in spoken]
        if was != one.state and one.state in ENDED:
            told.append((ENDED[one.state], data))
    return told + others


def dispute_data(channel: Channel, chosen: Sequence[Standing]) -> list[dict[str, Any]]:
    """What events say of disputes: of all at once, since each look reads all that was said."""
    return [
        {name: document[name] for name in _FIELDS}
        | {"until": None if document["until_at"] is None else iso_s(document["until_at"])}
        for document in dispute_documents(channel, chosen)
    ]


def _of_words(
    channel: Channel,
    one: Standing,
    data: dict[str, Any],
    log: ChannelLog,
    record: Answer | Resolution,
) -> Told:
    scale = scale_of(meter_named(channel.terms, one.dispute.meter))
    if isinstance(record, Resolution):
        offered = format_quantity(record.upheld, scale)
        words = {"offered": offered, "offered_by": log.party.name, "words": record.reason}
        return "dispute.offered", {**data, **words}
    if log is log_of(channel, one.role):
        return "dispute.insisted", {**data, "words": record.reason}
    conceded = format_quantity(record.conceded, scale)
    return "dispute.answered", {**data, "conceded": conceded, "words": record.reason}


def _of_no_dispute(log: ChannelLog, record: object) -> Iterator[Told]:
    by = log.party.name
    match record:
        case Declaration():
            commitment = record.commitment.hex()
            yield "declaration.made", {"by": by, "period": record.period, "commitment": commitment}
        case Reveal():
            at = log.index_of(record.declaration)
            declared = None if at is None else log.matter(at)
            if isinstance(declared, Declaration):
                totals = [{"meter": one.meter, "total": one.total} for one in record.totals]
                data = {"by": by, "period": declared.period, "totals": totals}
                yield "declaration.revealed", data
        case Lapse():
            closed = log.matter(record.index)
            if isinstance(closed, Close):
                period = parse_checkpoint(parse_note(closed.checkpoint).text).period
                yield "checkpoint.accepted", {"period": period, "by": by}
        case _:
            pass
