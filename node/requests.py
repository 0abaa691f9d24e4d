"""Callers' drafts on their way into a batch of our log, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from tallystick.node.errors import ArchiveError
from tallystick.node.importing.drafts import DRAFTS_MAX, Draft
from tallystick.node.logs import ChannelLog
from tallystick.node.segments.reading import have_repeated_at_hand
from tallystick.node.store.disk import Ticket

PART_DRAFTS = 1024  # made into a batch in one step, while others have something to record
SHARED_SECONDS = 1.0  # that who recorded last is taken to have more


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


def parts_of(drafts: Sequence[Draft]) -> list[Request]:
    """What one caller asks for, in parts that batches are made of."""
    if len(drafts) <= PART_DRAFTS:
        return [Request(drafts)]
    starts = range(0, len(drafts), PART_DRAFTS)
    return [Request(drafts[start : start + PART_DRAFTS]) for start in starts]


def joined(parts: Sequence[Request]) -> EmitResult:
    """What became of all parts."""
    if len(parts) == 1:
        return parts[0].result
    found = EmitResult([])
    for part in parts:
        before = len(found.indexes)
        found.indexes += part.result.indexes
        found.repeated += [before + place for place in part.result.repeated]
        found.problems += [(before + n, kind, said) for n, kind, said in part.result.problems]
    return found


class Turns:
    """How much the channels of a node make into a batch in one step: one that is alone as much as
    there is; beside others little, so that they have their turn in between.
    """

    def __init__(self) -> None:
        self._last: object = None
        self._shared_until = -math.inf

    def most(self, who: object, now: float) -> int:
        """How many drafts this one may take now."""
        if self._last is not who:
            if self._last is not None:
                self._shared_until = now + SHARED_SECONDS
            self._last = who
        return DRAFTS_MAX if now >= self._shared_until else PART_DRAFTS
