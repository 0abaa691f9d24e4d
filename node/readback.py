"""Records that are to be sent and are in segments alone: had at hand before they are read."""

from __future__ import annotations

import logging

import trio

from tallystick.node.errors import ArchiveError
from tallystick.node.logs import READ_RECORDS_MAX, ChannelLog
from tallystick.node.segments import GROUP
from tallystick.node.segments.reading import have_at_hand

UNREADABLE_SECONDS = 30  # until what the archive does not give is asked for again

_log = logging.getLogger("tallystick.link")


async def read_back(log: ChannelLog, start: int, stop: int, said: dict[str, object]) -> None:
    """Have a log's records that are sent next at hand; wait while the archive does not give them.
    `said` is what a line about that says of the channel.
    """
    stop = min(stop, start + 2 * READ_RECORDS_MAX)
    while True:
        try:
            await have_at_hand(log, [*range(start, stop, GROUP), stop - 1])
        except ArchiveError as error:
            _log.error("records cannot be sent", extra=said | {"reason": error})
            await trio.sleep(UNREADABLE_SECONDS)
        else:
            return
