"""Lapses by themselves: what the peer let pass in silence is written down once it can be proved.

For each of our records that waits (a closed period, a dispute without an
answer, an answer without an insisting one) it knows from when the time of the terms counts, by the
first head with that record that the peer co-signed. Once a later co-signature shows that it is
over, a `Lapse` goes into our log. On a quiet channel nothing would show it, so a `Reminder` goes
first; the co-signature of that does.

All of it follows from the two logs and the heads each time anew, so a crash, a full disk or an old
backup at any moment changes nothing, and a record that lapsed cannot lapse again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from tallystick.node.attesting import first_attested, newest_attested
from tallystick.node.books import Books
from tallystick.node.channel import Channel
from tallystick.node.disputing import standing_all
from tallystick.node.errands import WHEN_CALLED
from tallystick.node.errors import StoreError
from tallystick.node.upkeep import RETRY_SECONDS
from tallystick.protocol.errors import TallyError
from tallystick.protocol.matters import attested_at_s, waiting_seconds
from tallystick.protocol.records import Attested, Lapse, Reminder

REMIND_AGAIN_MAX_SECONDS = 86_400
LOOK_AGAIN_MAX_SECONDS = 3_600  # the machine's clock may be set meanwhile
LOOK_PAUSE_SECONDS = 0.2  # between two looks, however often something changes

_log = logging.getLogger("tallystick.lapsing")


@dataclass(frozen=True, slots=True)
class Due:
    """A record of ours that waits: its index, how long, and the first head that shows it."""

    index: int
    seconds: int
    start: Attested

    @property
    def until_s(self) -> int:
        """When it is over, by the peer's clock (POSIX seconds)."""
        return attested_at_s(self.start) + self.seconds


def waiting(channel: Channel) -> list[int]:
    """The indexes of our records that the peer may still contradict."""
    own = channel.own
    indexes = [index for index, _ in own.closes()]
    for one in standing_all(channel):
        if one.state == "open" and one.role == own.role:
            indexes.append(one.index)
        elif one.state == "answered" and one.role != own.role and one.answer is not None:
            indexes.append(one.answer)
    return [index for index in indexes if not own.ended(index)]


def dues(channel: Channel, starts: dict[int, Attested]) -> list[Due]:
    """Those that the peer has co-signed, by when their time is over. `starts` keeps the first
    heads that were found before, by index.
    """
    own = channel.own
    found = []
    for index in waiting(channel):
        start = starts.get(index) or first_attested(own, index)
        record = own.matter(index)
        seconds = None if record is None else waiting_seconds(channel.terms, record)
        if start is not None and seconds is not None:
            starts[index] = start
            found.append(Due(index, seconds, start))
    return sorted(found, key=lambda due: (due.until_s, due.index))


def reminded(channel: Channel, index: int) -> tuple[int, int]:
    """How often our log reminds of the record at an index, and when it did last (µs)."""
    times = [
        record.recorded_at
        for _, record in channel.own.matters(channel.own.durable_size)
        if isinstance(record, Reminder) and record.index == index
    ]
    return len(times), max(times, default=0)


class Lapser:
    """The lapses of one node. `caught_up` says whether a channel's link is live and nothing of the
    peer's log is missing here.
    """

    def __init__(self, books: Books, caught_up: Callable[[Channel], bool]) -> None:
        self._books = books
        self._caught_up = caught_up
        self._starts: dict[Channel, dict[int, Attested]] = {}  # first heads that were found
        self._waits: set[Channel] = set()

    def hears(self, channel: Channel) -> bool:
        """Whether a co-signature, or that the peer is here, may change what `follow` found."""
        return channel in self._waits

    async def follow(self, channel: Channel) -> float:
        """Write what lapses in a channel now; when to look again."""
        began = trio.current_time()
        seconds: float = LOOK_AGAIN_MAX_SECONDS
        waits = True
        self._waits.add(channel)  # what comes meanwhile is looked at next
        try:
            if not waiting(channel):
                self._starts.pop(channel, None)
                self._waits.discard(channel)
                return WHEN_CALLED
            if self._may_write(channel):
                wait_s, waits = await self.look(channel, self._starts.setdefault(channel, {}))
                seconds = min(seconds, wait_s)
            else:
                self._starts.pop(channel, None)  # our log may lose its end, and get it back
        except StoreError as error:
            _log.warning("what lapsed waits for the disk", extra={"reason": error})
            seconds = RETRY_SECONDS
        except TallyError as error:
            _log.error("a lapse failed", extra={"peer": channel.peer_keys.name, "reason": error})
        await trio.sleep(max(LOOK_PAUSE_SECONDS, trio.current_time() - began))
        if not waits:
            self._waits.discard(channel)
        return seconds

    def _may_write(self, channel: Channel) -> bool:
        state = self._books.founding.rows[channel.id].state
        return state == "open" and channel.live and not channel.doubt and self._caught_up(channel)

    async def look(self, channel: Channel, starts: dict[int, Attested]) -> tuple[float, bool]:
        """Write every lapse that can be proved, and remind where none can; in how many seconds to
        look again, and whether a co-signature may come before that shows more: of what is overdue,
        or of what the peer has not co-signed yet, so that its time has not begun.
        """
        await channel.store.commit(lambda txn: None)  # so that the co-signatures are on disk
        end = newest_attested(channel.own)
        later: list[float] = []
        found = dues(channel, starts)
        waits = len(found) < len(waiting(channel))
        for due in found:
            now_s = self._books.clock_us() / 1e6
            if end is not None and due.start.size <= end.size and _over(due, end):
                await channel.append_made(partial(_lapse, channel, due, end))
            elif now_s < due.until_s:
                later.append(due.until_s - now_s)
            else:
                waits = True
                later.append(await self._remind(channel, due))
        return max(min(later, default=LOOK_AGAIN_MAX_SECONDS), 0.05), waits

    async def _remind(self, channel: Channel, due: Due) -> float:
        """Remind, unless a co-signature is on its way or we did so lately; when to look again.

        A peer whose clock stands still is reminded ever more seldom.
        """
        own = channel.own
        if own.cosigned_size < own.durable_size or not own.settled:
            return RETRY_SECONDS
        count, last_us = reminded(channel, due.index)
        pause = min(2**count, REMIND_AGAIN_MAX_SECONDS) if count else 0
        left = last_us / 1e6 + pause - self._books.clock_us() / 1e6
        if left > 0:
            return left
        await channel.append_made(partial(_reminder, channel, due))
        return RETRY_SECONDS


def _over(due: Due, end: Attested) -> bool:
    return attested_at_s(end) >= due.until_s


def _lapse(channel: Channel, due: Due, end: Attested) -> Lapse | None:
    """The lapse of a record, unless it lapsed or was contradicted meanwhile."""
    if due.index not in waiting(channel):
        return None
    _log.info(
        "a record of ours was not contradicted in time",
        extra={"channel": channel.id.hex()[:8], "index": due.index},
    )
    size = channel.peer.durable_size
    return Lapse(due.index, due.start, end, size, channel.now_recorded_at())


def _reminder(channel: Channel, due: Due) -> Reminder | None:
    if due.index not in waiting(channel):
        return None
    return Reminder(due.index, channel.now_recorded_at())
