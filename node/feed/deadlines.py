"""Deadlines that come nearer: what waits in a channel, until when, and when to speak of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.node.attesting import until_s
from tallystick.node.channel import Channel
from tallystick.node.disputing import open_closes, waiting_record
from tallystick.node.feed.events import iso_s
from tallystick.node.feed.matters import dispute_data, standings_of
from tallystick.node.logs import ChannelLog
from tallystick.node.worklist import THEN
from tallystick.protocol.disputes import Standing
from tallystick.protocol.matters import waiting_seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A record that waits: what names it, and what it is about: a dispute, or a closed period. It
    is told of at `tell_s` (POSIX seconds, as `until_s`).
    """

    key: bytes
    tell_s: float
    until_s: int
    about: Standing | str
    waits_for: str

    @property
    def kind(self) -> str:
        """The kind of event that tells of it."""
        return "checkpoint.due" if isinstance(self.about, str) else "dispute.due"


def deadlines(
    channel: Channel, own_size: int, peer_size: int, ahead_seconds: float
) -> list[Deadline]:
    """What waits in a channel at these sizes of our log and the peer's. A deadline is told of
    `ahead_seconds` before, or half of the time that there is, if that is less.
    """
    found: list[Deadline] = []

    def add(log: ChannelLog, index: int, until: int | None, about: Standing | str) -> None:
        record = log.matter(index)
        seconds = None if record is None else waiting_seconds(channel.terms, record)
        if until is not None and seconds is not None:
            key = (b"o" if log is channel.own else b"p") + index.to_bytes(8, "big")
            ahead = min(ahead_seconds, seconds / 2)
            other = channel.peer if log is channel.own else channel.own
            found.append(Deadline(key, until - ahead, until, about, other.party.name))

    for log in (channel.own, channel.peer):
        for index, label in open_closes(log):
            add(log, index, until_s(log, index), label)
    for one in standings_of(channel, own_size, peer_size):
        waiting = waiting_record(channel, one)
        if waiting is not None:
            add(waiting.log, waiting.index, waiting.until_s, one)
    return sorted(found, key=lambda one: one.tell_s)


def deadline_data(channel: Channel, due: Sequence[Deadline]) -> list[dict[str, Any]]:
    """What is told of deadlines, once they are near: of all at once, as `dispute_data`."""
    disputes = iter(
        dispute_data(channel, [one.about for one in due if not isinstance(one.about, str)])
    )
    return [
        {"period": one.about, "waits_for": one.waits_for, "until": iso_s(one.until_s)}
        if isinstance(one.about, str)
        else next(disputes) | {"then": THEN[one.about.state]}
        for one in due
    ]
