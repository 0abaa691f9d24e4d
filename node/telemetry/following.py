"""What follows from a channel's records and is too costly to derive at each scrape: which disputes
wait, until when, and since when a period could have been closed.

It is derived anew only for a channel where something happened that may change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tallystick.node.channel import Channel
from tallystick.node.closing import Closer
from tallystick.node.disputing import standing_all, waiting_record
from tallystick.node.logs import ChannelLog
from tallystick.protocol.disputes import PENDING
from tallystick.protocol.records import Delta

BATCHES_LOOKED_MAX = 4  # for a log's first delta of an open period

Who = Literal["us", "peer", "nobody"]
WHO: tuple[Who, ...] = ("us", "peer", "nobody")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A dispute that waits, and until when (POSIX seconds), if that is known."""

    who: Who
    until_s: int | None


class Following:
    """What was derived of one channel."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.due_us: int | None = None  # from when on a period with usage may be closed
        self._seen: tuple[int, int, int] | None = None
        self._due_seen: tuple[bytes, int, int] | None = None

    def look(self, channel: Channel, closer: Closer) -> bool:
        """Derive again what may have changed; whether anything was derived."""
        derived = False
        seen = (channel.own.mattered, channel.peer.mattered, channel.cuts)
        # Until when a dispute waits is known once the peer has co-signed what began it.
        unknown = any(one.until_s is None and one.who != "nobody" for one in self.waiting)
        if seen != self._seen or unknown:
            self._seen, derived = seen, True
            self.waiting = list(_waiting(channel))
        last = closer.last
        sizes = (channel.own.durable_size, channel.peer.durable_size)
        due_seen = (last.digest if last else b"", *(sizes if self.due_us is None else (0, 0)))
        if due_seen != self._due_seen:
            self._due_seen, derived = due_seen, True
            self.due_us = _due_us(channel, closer)
        return derived


def _waiting(channel: Channel) -> Iterator[Waiting]:
    for one in standing_all(channel):
        if one.state in PENDING:
            role = one.waits_for
            who: Who = "nobody" if role is None else "us" if role == channel.role else "peer"
            waits = waiting_record(channel, one)
            yield Waiting(who, None if waits is None else waits.until_s)


def _due_us(channel: Channel, closer: Closer) -> int | None:
    """When the period of the first delta that no checkpoint bills may be closed; microseconds."""
    last = closer.last
    calendar = channel.own.folder.calendar
    sizes = last.sizes if last else (0, 0)
    ends = []
    for log, size in zip((channel.provider_log, channel.consumer_log), sizes, strict=True):
        delta = _first_delta(log, size)
        if delta is not None:
            period = calendar.period_of(delta.occurred_at)
            if last is not None and period.end_us <= last.end_us:
                period = calendar.period_of(last.end_us)  # what is late counts in the next one
            ends.append(period.end_us)
    return min(ends) + channel.terms.grace_seconds * 1_000_000 if ends else None


def _first_delta(log: ChannelLog, start: int) -> Delta | None:
    for (_, records), _ in zip(
        log.records(start, log.durable_size), range(BATCHES_LOOKED_MAX), strict=False
    ):
        for record in records:
            if isinstance(record, Delta):
                return record
    return None
