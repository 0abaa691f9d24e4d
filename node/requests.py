"""Callers' drafts on their way into a batch of our log, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from tallystick.node.errors import ArchiveError
from tallystick.node.importing.drafts import Draft
from tallystick.node.logs import ChannelLog
from tallystick.node.segments.reading import have_repeated_at_hand
from tallystick.node.store.disk import Ticket


@dataclass(slots=True)
class EmitResult:
    """What became of drafts: their indexes in the log (-1: not recorded), which of them were there
    already, and why others are not.
    """

    indexes: list[int]
    repeated: list[int] = field(default_factory=list)  # places
    problems: list[tuple[int, str, str]] = field(default_factory=list)  # place, kind, message


class Request:
    """Drafts of one caller."""

    __slots__ = ("drafts", "result", "scheduled", "ticket")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.result = EmitResult([])
        self.scheduled = trio.Event()
        self.ticket: Ticket | None = None


async def readable(log: ChannelLog, requests: Sequence[Request]) -> list[Request]:
    """Those of which what they may repeat can be read; it is at hand then. Others fail alone."""
    found = []
    for request in requests:
        try:
            await have_repeated_at_hand(log, request.drafts)
        except ArchiveError as error:
            request.ticket = Ticket.failed(error)
            request.scheduled.set()
        else:
            found.append(request)
    return found
