"""Deadlines that come nearer: what waits in a channel, until when, and when to speak of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tallystick.node.attesting import until_s
from tallystick.node.channel import Channel
from tallystick.node.disputing import open_closes, standing_all, waiting_record
from tallystick.node.feed.events import iso_s
from tallystick.node.feed.matters import dispute_data
from tallystick.node.logs import ChannelLog
from tallystick.node.worklist import THEN
from tallystick.protocol.disputes import PENDING
from tallystick.protocol.matters import waiting_seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A record that waits: what names it, and what is told of it at `tell_s` (POSIX seconds, as
    `until_s`).
    """

    key: bytes
    kind: str
    tell_s: float
    until_s: int
    data: dict[str, Any]


def deadlines(channel: Channel, ahead_seconds: float) -> list[Deadline]:
    """What waits in a channel. A deadline is told of `ahead_seconds` before, or half of the time
    that there is, if that is less.
    """
    found: list[Deadline] = []

    def add(log: ChannelLog, index: int, kind: str, until: int | None, data: Any) -> None:
        record = log.matter(index)
        seconds = None if record is None else waiting_seconds(channel.terms, record)
        if until is not None and seconds is not None:
            key = (b"o" if log is channel.own else b"p") + index.to_bytes(8, "big")
            ahead = min(ahead_seconds, seconds / 2)
            found.append(Deadline(key, kind, until - ahead, until, data))

    for log, other in ((channel.own, channel.peer), (channel.peer, channel.own)):
        for index, label in open_closes(log):
            until = until_s(log, index)
            if until is not None:
                data = {"period": label, "waits_for": other.party.name, "until": iso_s(until)}
                add(log, index, "checkpoint.due", until, data)
    pending = [one for one in standing_all(channel) if one.state in PENDING]
    for one, data in zip(pending, dispute_data(channel, pending), strict=True):
        waiting = waiting_record(channel, one)
        if waiting is not None and waiting.until_s is not None:
            due = data | {"then": THEN[one.state]}
            add(waiting.log, waiting.index, "dispute.due", waiting.until_s, due)
    return sorted(found, key=lambda one: one.tell_s)
