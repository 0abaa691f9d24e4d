"""Looking after the channels of a node: what happens in one calls for the errands that follow.

A log that grew may have to be flushed, and sent on; a close, a dispute or a declaration may lapse
or be answered; a peer that is here, or co-signed, lets what waited go on. Nothing of it has a task
before it has work, so a channel in which nothing happens costs none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from tallystick.node.channel import Channel
from tallystick.node.errands import Errands
from tallystick.node.logs import ChannelLog
from tallystick.node.upkeep import due, tend, tend_index


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
