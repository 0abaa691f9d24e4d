"""Looking after the channels of a node: what happens in one calls for the errands that follow.

A log that grew may have to be flushed, and sent on; a close, a dispute or a declaration may lapse
or be answered; a peer that is here, or co-signed, lets what waited go on. Nothing of it has a task
before it has work, so a channel in which nothing happens costs none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from tallystick.node.channel import Channel
from tallystick.node.errands import Errands
from tallystick.node.errors import StoreError
from tallystick.node.logs import ChannelLog
from tallystick.node.upkeep import LOGS_A_FLUSH, due, flush_all, tend, tend_index

LOOK_SECONDS = 30.0
IDLE_SECONDS = 300.0  # without growth, after which a log keeps nothing at hand
HELD_IDLE_MAX = 64  # entries and lines that an idle log may hold: reading them again is nothing
HELD_MAX = 1_000_000  # that all logs may hold together: some 150 MB

_log = logging.getLogger("tallystick.attending")


class Follower(Protocol):
    """One kind of work that a channel may need when its peer says something."""

    def hears(self, channel: Channel) -> bool:
        """Whether there is anything to do once the peer is here, said something or co-signed."""

    async def follow(self, channel: Channel) -> float:
        """Do it; in how many seconds to look again."""


class Attendant:
    """Attends to the channels of one node. `send` has more of a channel's own log sent."""

    def __init__(
        self,
        errands: Errands,
        keys: Follower,
        matters: tuple[Follower, ...],
        send: Callable[[Channel], None],
    ) -> None:
        self._errands = errands
        self._all = (keys, *matters)
        self._matters = matters
        self._send = send
        self._used: dict[ChannelLog, float] = {}  # logs that grew lately, and when

    def start(self, nursery: trio.Nursery) -> None:
        """Let logs rest that nothing happens in, for as long as the node runs."""
        nursery.start_soon(self._keep_resting)

    def attend(self, channel: Channel, *, concerned: bool) -> None:
        """Look after a channel from now on. `concerned` says whether anything in it may wait for
        somebody: it has closes, matters, or declarations to open.
        """
        channel.stirred = partial(self.stirred, channel)
        for log in (channel.own, channel.peer):
            log.grew = partial(self._grew, channel, log)
            self._tend(log)
            if log.index.mergeable():
                self._errands.call(tend_index, log)
        if concerned:
            self._matters_came(channel)
        self.stirred(channel)

    def stirred(self, channel: Channel) -> None:
        """The peer is here, said something or co-signed: whoever waits for that goes on."""
        for one in self._all:
            if one.hears(channel):
                self._errands.call(one.follow, channel)

    def _grew(self, channel: Channel, log: ChannelLog, mattered: bool) -> None:
        self._used[log] = trio.current_time()
        self._tend(log)
        if mattered:
            self._matters_came(channel)
        if log is channel.own:
            self._send(channel)
        else:
            self.stirred(channel)

    def _tend(self, log: ChannelLog) -> None:
        if due(log):
            self._errands.call(self._flush, log)

    async def _flush(self, log: ChannelLog) -> float:
        seconds = await tend(log)
        if log.index.mergeable():
            self._errands.call(tend_index, log)
        return seconds

    def _matters_came(self, channel: Channel) -> None:
        for one in self._matters:
            self._errands.call(one.follow, channel)

    async def _keep_resting(self) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                await self.rest(trio.current_time() - IDLE_SECONDS)
            except StoreError as error:
                _log.warning("what logs hold waits for the disk", extra={"reason": error.message})

    async def rest(self, before: float) -> None:
        """Write what logs hold in memory in which nothing happened since a time, if it is much, and
        have them keep nothing else at hand. If all hold too much together, write most of it.
        """
        idle = [log for log, at in self._used.items() if at < before]
        much = [log for log in idle if held(log) > HELD_IDLE_MAX]
        if sum(map(held, self._used)) > HELD_MAX:
            much += sorted(self._used, key=held)[-LOGS_A_FLUSH:]
        await flush_all(dict.fromkeys(much))
        for log in idle:
            if self._used[log] < before:
                del self._used[log]
                log.rest()


def held(log: ChannelLog) -> int:
    """How many index entries and lines a log holds in memory until they are written."""
    return log.index.recent + len(log.book.dirty)
