"""What callers ask to have recorded in a channel, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from tallystick.node.importing.drafts import Draft
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
    """Drafts of one caller on their way into a batch."""

    __slots__ = ("drafts", "result", "scheduled", "ticket")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.result = EmitResult([])
        self.scheduled = trio.Event()
        self.ticket: Ticket | None = None
