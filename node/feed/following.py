"""What the store says of a channel now, against what the feed has told of it: the events between.

Everything here follows from the store and a `FollowedRow`. The events and the row that says they
were told go into the store in one transaction, so after a crash they are found again or were told.
Logs are followed as far as they are co-signed: that much neither side can take back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.feed.deadlines import Deadline, deadline_data, deadlines
from tallystick.node.feed.events import iso, iso_s, make_row
from tallystick.node.feed.matters import Telling, rows_of_matters
from tallystick.node.founding import decode_channel
from tallystick.node.store.disk import Txn
from tallystick.node.store.keyspace import (
    ChannelRow,
    CheckpointRow,
    FeedRow,
    FollowedRow,
    HeadRow,
    LogRow,
    UnplacedRow,
    encode_row,
    index_key,
    index_of,
    log_key,
)
from tallystick.protocol.evidence import parse_evidence
from tallystick.protocol.quantities import format_quantity
from tallystick.protocol.records import Delta, decode_record
from tallystick.protocol.terms import meter_named
from tallystick.protocol.verdict import decode_verdict

LOOK_AGAIN_SECONDS = 1  # while lost records come back
FOUNDED = ("open", "halted")
EVIDENCE, DEADLINE = b"e", b"d"  # what is told once, in the keys of the table `told`

_decode_followed = msgspec.msgpack.Decoder(FollowedRow).decode
_decode_log = msgspec.msgpack.Decoder(LogRow).decode
_decode_head = msgspec.msgpack.Decoder(HeadRow).decode
_decode_checkpoint = msgspec.msgpack.Decoder(CheckpointRow).decode
_decode_unplaced = msgspec.msgpack.Decoder(UnplacedRow).decode


@dataclass(slots=True)
class Found:
    """What is to be told of a channel, and what to write with it."""

    rows: list[FeedRow] = field(default_factory=list)
    puts: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    deletes: list[tuple[str, bytes]] = field(default_factory=list)
    again_seconds: float | None = None  # look again then, without news


def snapshot(txn: Txn, row: ChannelRow) -> FollowedRow:
    """A channel as it is now, as if all of it had been told; a doubt about it has not."""
    found = FollowedRow(row.state, 0, row.doubt != 0)
    if row.state in FOUNDED:
        found.own, found.peer = _cosigned(txn, 2 * row.number), _cosigned(txn, 2 * row.number + 1)
        found.checkpoints = _count(txn, "checkpoints", row.number)
        found.unplaced = _count(txn, "unplaced", 2 * row.number)
    return found


def _cosigned(txn: Txn, log: int) -> int:
    value = txn.get("logs", log_key(log))
    return _decode_log(value).cosigned_size if value else 0


def _count(txn: Txn, table: str, number: int) -> int:
    found = txn.floor(table, index_key(number, 2**64 - 1))
    return index_of(found[0]) + 1 if found and found[0].startswith(log_key(number)) else 0


def evidence_told(txn: Txn, key: bytes, number: int) -> list[bytes]:
    """The keys that say of a channel's evidence that it was told."""
    prefix = log_key(number)
    scan = txn.scan("evidence", prefix, prefix + b"\xff" * 33)
    return [key + EVIDENCE + found[len(prefix) :] for found, _ in scan]


class Follower:
    """Follows the channels of one node. `caught_up` says whether nothing of the peer's log is
    missing here; deadlines are told `ahead_seconds` before, those before `since_s` never.
    """

    def __init__(
        self,
        books: Books,
        caught_up: Callable[[Channel], bool],
        ahead_seconds: float,
        since_s: float,
    ) -> None:
        self.books = books
        self.caught_up = caught_up
        self.since_s = since_s
        self._ahead_seconds = ahead_seconds
        self._deadlines: dict[bytes, list[Deadline]] = {}

    def look(self, key: bytes) -> Found:
        """What is to be told of a channel now."""
        found = Found()
        with self.books.store.read() as txn:
            value = txn.get("followed", key)
            stored = txn.get("channels", key)
            if stored is None:
                if value is not None:
                    found.deletes.append(("followed", key))
                return found
            row = decode_channel(stored)
            before = _decode_followed(value) if value else FollowedRow("", 0, row.doubt != 0)
            look = _Look(self, txn, key, row, before, found)
            after = look.run()
        if value is None or after != before:
            found.puts.append(("followed", key, encode_row(after)))
        return found

    def deadlines(self, channel: Channel, after: FollowedRow, *, anew: bool) -> list[Deadline]:
        """What waits in a channel, by when it is to be told of: of what was told until `after`.

        Memory is not asked how long the logs are: it counts a commit a moment after it can be read.
        """
        if anew or channel.id not in self._deadlines:
            found = deadlines(channel, after.own, after.peer, self._ahead_seconds)
            self._deadlines[channel.id] = found
        return self._deadlines[channel.id]


class _Look:
    """One look at one channel, in one read transaction."""

    def __init__(
        self,
        follower: Follower,
        txn: Txn,
        key: bytes,
        row: ChannelRow,
        before: FollowedRow,
        found: Found,
    ) -> None:
        self._follower, self._txn, self._key = follower, txn, key
        self._row, self._before, self._found = row, before, found
        self._now_us = follower.books.clock_us()

    def _tell(self, kind: str, data: dict[str, Any], *, once: bool = True) -> None:
        made = make_row(kind, self._key, self._row.peer, data, self._now_us, once=once)
        self._found.rows.append(made)

    def run(self) -> FollowedRow:
        """What was told after this look."""
        row, before = self._row, self._before
        after = msgspec.structs.replace(before, state=row.state, doubt=row.doubt)
        self._tell_state()
        opened = self._follower.books.channels.get(self._key)
        if row.state in FOUNDED and opened is not None:
            channel, _ = opened
            if row.doubt and not before.doubt:
                self._tell("recovery.begun", {"peer": row.peer}, once=False)
                after.returning = True
            self._tell_evidence()
            self._tell_unplaced(channel, after)
            if after.returning:
                self._come_back(channel, after)
            else:
                self._follow(channel, after)
        return after

    def _tell_state(self) -> None:
        row, before = self._row, self._before
        if row.state == before.state:
            return
        if row.state == "offered":
            self._tell("channel.offered", {"peer": row.peer})
        elif row.state == "open" and before.state != "halted":
            self._tell("channel.opened", {"peer": row.peer})
        elif row.state == "halted":
            self._tell("channel.halted", {"peer": row.peer, "reason": row.reason})

    def _come_back(self, channel: Channel, after: FollowedRow) -> None:
        """What comes back was told before it was lost: go on from where it ends."""
        if self._row.doubt or not self._follower.caught_up(channel):
            self._found.again_seconds = LOOK_AGAIN_SECONDS
            return
        now = snapshot(self._txn, self._row)
        after.returning = False
        after.own, after.peer, after.checkpoints = now.own, now.peer, now.checkpoints
        self._tell("recovery.done", {"own_size": now.own, "peer_size": now.peer}, once=False)
        self._tell_deadlines(channel, after, anew=True)

    def _follow(self, channel: Channel, after: FollowedRow) -> None:
        before = self._before
        after.own = self._tell_cosigned(channel, 2 * self._row.number, before.own)
        after.peer = self._tell_cosigned(channel, 2 * self._row.number + 1, before.peer)
        self._tell_checkpoints(after)
        ranges = ((before.own, after.own), (before.peer, after.peer))
        telling = Telling(channel, *ranges)
        matters = telling.any(self._txn)
        if matters:
            for kind, data in rows_of_matters(telling):
                self._tell(kind, data)
        self._tell_deadlines(channel, after, anew=matters)

    def _tell_cosigned(self, channel: Channel, number: int, before: int) -> int:
        size = _cosigned(self._txn, number)
        if size <= before:
            return size
        value = self._txn.get("heads", index_key(number, size))
        assert value is not None
        head = _decode_head(value)
        ours = not number % 2
        log = channel.own if ours else channel.peer
        self._tell(
            "delta.cosigned",
            {
                "log": log.party.name,
                "ours": ours,
                "from": before,
                "to": size,
                "root": head.root.hex(),
                "cosigned_at": iso_s(int.from_bytes(head.cosignature[:8], "big")),
            },
        )
        return size

    def _tell_checkpoints(self, after: FollowedRow) -> None:
        number = self._row.number
        start, stop = index_key(number, self._before.checkpoints), log_key(number + 1)
        for key, value in self._txn.scan("checkpoints", start, stop):
            row = _decode_checkpoint(value)
            after.checkpoints = index_of(key) + 1
            self._tell(
                "checkpoint.signed",
                {
                    "period": row.period,
                    "digest": row.digest.hex(),
                    "ends": iso(row.end_us),
                    "provider_size": row.provider_size,
                    "consumer_size": row.consumer_size,
                    "lines": len(row.lines),
                },
            )
            disputed = [
                meter.meter
                for meter in (decode_verdict(row.verdict).meters if row.verdict else ())
                if meter.result == "disputed"
            ]
            if disputed:
                said = f"the verdict is disputed on {', '.join(disputed)}"
                where = {"where": "verdict", "meters": disputed}
                digest = row.digest.hex()
                self._tell(
                    "discrepancy.found",
                    {"period": row.period, "digest": digest, **where, "said": said},
                )

    def _tell_unplaced(self, channel: Channel, after: FollowedRow) -> None:
        log = 2 * self._row.number
        start, stop = index_key(log, self._before.unplaced), log_key(log + 1)
        for key, value in self._txn.scan("unplaced", start, stop):
            row = _decode_unplaced(value)
            after.unplaced = index_of(key) + 1
            record = decode_record(row.record)
            data: dict[str, Any] = {
                "number": index_of(key),
                "record": type(record).__name__.lower(),
                "reason": row.reason,
            }
            if isinstance(record, Delta):
                scale = meter_named(channel.terms, record.meter).scale
                data |= {
                    "meter": record.meter,
                    "id": record.id,
                    "subject": record.subject,
                    "quantity": format_quantity(record.quantity, scale),
                    "recorded_at": iso(record.recorded_at),
                }
            self._tell("delta.unplaced", data)

    def _tell_evidence(self) -> None:
        number = self._row.number
        for told in evidence_told(self._txn, self._key, number):
            if self._txn.get("told", told) is None:
                digest = told[len(self._key) + 1 :]
                data = self._txn.get("evidence", log_key(number) + digest)
                assert data is not None
                accused = parse_evidence(data).accused.party
                self._found.puts.append(("told", told, b""))
                self._tell("evidence.found", {"digest": digest.hex(), "accused": accused})

    def _tell_deadlines(self, channel: Channel, after: FollowedRow, *, anew: bool) -> None:
        """Tell of those that are near, once each; say when to look for the next one."""
        prefix = self._key + DEADLINE
        found = self._follower.deadlines(channel, after, anew=anew)
        now_s = self._now_us / 1e6
        if anew:
            wanted = {prefix + one.key for one in found}
            for told, _ in self._txn.scan("told", prefix, prefix + b"\xff" * 16):
                if told not in wanted:
                    self._found.deletes.append(("told", told))
        due: list[Deadline] = []
        for one in found:
            told = prefix + one.key
            if one.tell_s > now_s:
                self._found.again_seconds = one.tell_s - now_s
                break
            if self._txn.get("told", told) is None:
                self._found.puts.append(("told", told, b""))
                if one.until_s >= self._follower.since_s:
                    due.append(one)
        for one, data in zip(due, deadline_data(channel, due), strict=True):
            self._tell(one.kind, data)
